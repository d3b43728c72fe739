"""The plan of a push: the state of each branch on the Hub and the action to take."""

from collections.abc import Collection
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Literal

from huggingface_hub import HfApi
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from hf_paint.errors import InputError
from hf_paint.hub.owners import check_owner
from hf_paint.hub.publication import Publication
from hf_paint.hub.pull import card_metadata
from hf_paint.results.alphas import Alpha, format_alpha, is_unpatched


Action = Literal["upload", "replace", "update card", "keep"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch in the plan.

    Attributes:
        name: Branch name.
        alpha: Alpha or coefficients of the model; None for a delta.
        action: Action to take.
        commit: Current commit; None if the branch does not exist.
        card: New card.
    """

    name: str
    alpha: Alpha | None
    action: Action
    commit: str | None
    card: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PushPlan:
    """The plan of a push.

    Attributes:
        repo_id: Hub repository id.
        branches: Branches in the order of the push, `main` last.
        num_bytes: Size of one model in bytes.
        rights: Sentence on the logged-in account and its write access to the repository.
        url: URL of the repository.
        is_unpatched: Whether the run chose alpha 0, so that `main` is a copy of the base, or a delta changes nothing
            by default.
    """

    repo_id: str
    branches: list[Branch] = field(repr=False)
    num_bytes: int
    rights: str
    url: str
    is_unpatched: bool = False

    def rows(self) -> list[list[str]]:
        """Return the plan as a table, header first."""
        rows = [["branch", "alpha", "action", "MB"]]
        for branch in self.branches:
            alpha = "delta" if branch.alpha is None else format_alpha(branch.alpha)
            size = self.num_bytes / 1e6 if branch.action in ("upload", "replace") else 0.0
            rows.append([branch.name, alpha, branch.action, f"{size:.1f}"])
        return rows


def plan_push(publication: Publication, *, overwrite: bool, private: bool | None, eval_results: bool) -> PushPlan:
    """Compare a publication with its repository on the Hub, without changing anything.

    Raises:
        InputError: If the account cannot write to the repository, a branch has different weights and `overwrite` is
            False, or the repository is public and `private` is True.
    """
    api, repo_id = HfApi(), publication.repo_id
    rights = check_owner(api.whoami(), repo_id)
    commits = _commits(api, repo_id)
    if private and commits and not api.model_info(repo_id).private:
        raise InputError(f"{repo_id} is already public. Choose another repository, or push without `private`.")
    branches = [
        _plan_branch(api, publication, name, commits.get(name), eval_results=eval_results)
        for name in publication.branches
    ]
    replaced = [branch.name for branch in branches if branch.action == "replace"]
    if replaced and not overwrite:
        raise InputError(
            f"The branch {replaced[0]} of {repo_id} has different weights ({len(replaced)} of {len(branches)} "
            "branches do). Choose another repository, or replace them with --overwrite."
        )
    return PushPlan(
        repo_id=repo_id,
        branches=branches,
        num_bytes=publication.num_bytes,
        rights=f"{rights}; {repo_id} {'exists' if commits else 'will be created'}.",
        url=f"{api.endpoint}/{repo_id}",
        is_unpatched=is_unpatched(publication.source.selected),
    )


def _commits(api: HfApi, repo_id: str) -> dict[str, str]:
    """Return the commit of each branch; empty if the repository does not exist."""
    try:
        return {branch.name: branch.target_commit for branch in api.list_repo_refs(repo_id).branches}
    except RepositoryNotFoundError:
        return {}


def _plan_branch(api: HfApi, publication: Publication, name: str, commit: str | None, *, eval_results: bool) -> Branch:
    alpha, card = publication.branches[name], publication.card(name)
    action: Action = "upload"
    if commit is not None:
        tree = api.list_repo_tree(publication.repo_id, revision=commit, recursive=True)
        files = {file.path: file for file in tree if isinstance(file, RepoFile)}
        action = _action(publication, alpha, commit, files)
        results = publication.eval_results(alpha) if eval_results else {}
        wanted = publication.description(name, card, results)
        if action == "keep" and not all(_is_stored(content, files.get(file)) for file, content in wanted.items()):
            action = "update card"
    return Branch(name=name, alpha=alpha, action=action, commit=commit, card=card)


def _action(publication: Publication, alpha: Alpha | None, commit: str, files: Collection[str]) -> Action:
    """Return the action for the weights on an existing branch; what describes them may still be outdated."""
    if not any(file.endswith(".safetensors") for file in files):
        return "upload"
    try:
        weights = card_metadata(publication.repo_id, revision=commit).get("weights")
    except InputError:  # not published by hf_paint, or damaged since
        return "replace"
    return "keep" if weights == publication.fingerprint(alpha) else "replace"


def _is_stored(content: bytes, file: RepoFile | None) -> bool:
    """Return whether a file on the Hub, if there is one, has this content."""
    if file is None:
        return False
    return file.blob_id == git_hash(content) if file.lfs is None else file.lfs.sha256 == sha256(content).hexdigest()
