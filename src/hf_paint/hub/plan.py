"""The plan of a push: what a repository holds already, and what has to be done."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError

from hf_paint.errors import InputError
from hf_paint.hub.publication import Publication
from hf_paint.hub.pull import card_metadata, read_card
from hf_paint.results.alphas import Alpha, format_alpha


Action = Literal["upload", "replace", "update card", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of the plan.

    Attributes:
        name: Its name.
        alpha: The alpha or the coefficients that it will hold; None for a delta.
        action: What has to be done.
        head: The commit that it is at; None if there is no such branch.
        card: The card that it will have.
    """

    name: str
    alpha: Alpha | None
    action: Action
    head: str | None
    card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """What a push does, or would do.

    Attributes:
        repo_id: The repository.
        branches: In the order in which they are pushed, `main` last.
        num_bytes: The size of one model.
        rights: Who is logged in, and what that means for the repository.
        url: Where the repository is.
    """

    repo_id: str
    branches: list[Branch] = field(repr=False)
    num_bytes: int
    rights: str
    url: str

    def rows(self) -> list[list[str]]:
        """Return the plan as a table, the header first."""
        rows = [["branch", "alpha", "action", "MB"]]
        for branch in self.branches:
            alpha = "delta" if branch.alpha is None else format_alpha(branch.alpha)
            size = self.num_bytes / 1e6 if branch.action in ("upload", "replace") else 0.0
            rows.append([branch.name, alpha, branch.action, f"{size:.1f}"])
        return rows


def plan_push(publication: Publication, *, overwrite: bool, private: bool | None, eval_results: bool) -> PushPlan:
    """Compare what the repository holds with what it shall hold; nothing is touched.

    Raises:
        InputError: If a branch holds other weights, without `overwrite`, or the repository is public and shall not be.
    """
    api = HfApi()
    user = api.whoami()
    heads = _heads(api, publication.repo_id)
    if private and heads and not api.model_info(publication.repo_id).private:
        raise InputError(
            f"{publication.repo_id} is public already. Choose another repository, or push without private."
        )
    branches = []
    for name, alpha in publication.branches.items():
        branch = Branch(name=name, alpha=alpha, action="upload", head=heads.get(name), card=publication.card(name))
        branches.append(replace(branch, action=_action(api, publication, branch, eval_results=eval_results)))
    taken = [branch.name for branch in branches if branch.action == "replace"]
    if taken and not overwrite:
        raise InputError(
            f"The branch {taken[0]} of {publication.repo_id} holds other weights ({len(taken)} of {len(branches)} "
            "branches do). Choose another repository, or replace them: --overwrite."
        )
    return PushPlan(
        repo_id=publication.repo_id,
        branches=branches,
        num_bytes=publication.num_bytes,
        rights=_rights(user, publication.repo_id, exists=bool(heads)),
        url=f"{api.endpoint}/{publication.repo_id}",
    )


def _heads(api: HfApi, repo_id: str) -> dict[str, str]:
    """Return branch -> commit; nothing for a repository that does not exist."""
    try:
        return {branch.name: branch.target_commit for branch in api.list_repo_refs(repo_id).branches}
    except RepositoryNotFoundError:
        return {}


def _action(api: HfApi, publication: Publication, branch: Branch, *, eval_results: bool) -> Action:
    """Compare what a branch holds with what it shall hold."""
    if branch.head is None:
        return "upload"
    files = api.list_repo_files(publication.repo_id, revision=branch.head)
    if not any(file.endswith(".safetensors") for file in files):
        return "upload"
    try:
        held = card_metadata(publication.repo_id, revision=branch.head).get("weights")
    except InputError:
        return "replace"
    if held != publication.fingerprint(branch.alpha):
        return "replace"
    card = read_card(publication.repo_id, branch.head).read_text(encoding="utf-8")
    results = not eval_results or set(publication.eval_results(branch.alpha)) <= set(files)
    return "keep" if card == branch.card and results else "update card"


def _rights(user: Mapping[str, object], repo_id: str, *, exists: bool) -> str:
    namespace = repo_id.split("/")[0]
    orgs = user.get("orgs")
    names = {user["name"], *(org["name"] for org in (orgs if isinstance(orgs, list) else []))}
    auth = user.get("auth")
    role = auth.get("accessToken", {}).get("role") if isinstance(auth, dict) else None
    allowed = "may write to" if namespace in names else "is not a member of"
    allowed = "is logged in with a token that may only read, and cannot write to" if role == "read" else allowed
    return f"{user['name']} {allowed} {namespace}; {repo_id} {'exists' if exists else 'will be made'}."
