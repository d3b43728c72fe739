"""Publishing a run as one repository, with the selected model on `main` and every alpha on a branch."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import LocalTokenNotFoundError
from tqdm.auto import tqdm

from hf_paint.adapters.patch_config import PatchDtype
from hf_paint.errors import InputError
from hf_paint.hub.errors import hub_errors
from hf_paint.hub.owners import check_owner
from hf_paint.hub.plan import Action, Branch, PushPlan, plan_push
from hf_paint.hub.publication import Publication
from hf_paint.results.alphas import is_unpatched
from hf_paint.results.locks import check_idle, reading
from hf_paint.results.run_files import example_plot
from hf_paint.results.seals import check_sealed
from hf_paint.temporary import remove_leftovers, temporary_folder
from hf_paint.weights.manifest import MANIFEST


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """Options that most pushes leave at their defaults.

    Attributes:
        form: `variants` for complete models, or `delta` for a small file on `main` with only `theta_1 - theta_0`,
            which `apply_patch` loads.
        delta_dtype: Dtype of a delta; `bfloat16` takes half the space.
        base_model_id: Hub repository id of the base, if the run started from a folder.
        tag: Tag for `main`.
        collection: Slug of a collection to add the repository to.
        eval_results: Whether to also write `.eval_results/`.
        allow_unpatched: Whether to publish a run that chose alpha 0, so that nothing was patched.
    """

    form: Literal["variants", "delta"] = "variants"
    delta_dtype: PatchDtype = "float32"
    base_model_id: str | None = None
    tag: str | None = None
    collection: str | None = None
    eval_results: bool = False
    allow_unpatched: bool = False


class HasRunFolder(Protocol):
    """The result of a patching strategy."""

    @property
    def run_folder(self) -> Path:
        """Path to the run folder."""


def push_variants(
    run: HasRunFolder | str | Path,
    repo_id: str,
    *,
    alphas: Sequence[float] | None = None,
    private: bool | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    options: PushOptions | None = None,
) -> PushPlan:
    """Publish a run as one repository: the selected model on `main`, the others on `alpha-0.00` to `alpha-1.00`.

    Each branch is a complete CLIP repository with a card, uploaded in one commit. The model on `main` is a
    byte-for-byte copy of `patched/` in the run folder. Branches that already have the same weights are skipped, so
    rerunning an interrupted push resumes it. `main` is pushed last.

    Args:
        run: Result of a patching strategy, or path to a run folder.
        repo_id: Hub repository id, for example `me/clip-mnist`; created if needed.
        alphas: Alphas that get a branch; by default, all that were evaluated.
        private: Whether a new repository is private; None uses the default of the account.
        overwrite: Whether to replace branches that have different weights.
        dry_run: Whether to only return the plan.
        options: Options that most pushes leave at their defaults.

    Returns:
        The plan of the push.

    Raises:
        InputError: If no alpha was selected, nothing was patched, the base is not on the Hub, an alpha was not
            evaluated, the account cannot write to the repository, or a branch has different weights.
        JobError: If the Hub rejects a request or cannot be reached.

    Example:
        >>> push_variants("runs/mnist", "me/clip-mnist", private=True)  # doctest: +SKIP
    """
    options = options or PushOptions()
    folder = Path(run) if isinstance(run, str | Path) else run.run_folder
    check_idle(folder)
    with nullcontext() if dry_run else reading(folder):  # whoever only plans needs no right to write there
        check_sealed(folder, is_published=True)
        with hub_errors(f"Planning the push to {repo_id} failed"):
            publication = Publication.from_run(
                folder,
                repo_id,
                alphas=alphas,
                base_model_id=options.base_model_id,
                delta=options.delta_dtype if options.form == "delta" else None,
            )
            if not (dry_run or options.allow_unpatched):
                _refuse_unpatched(publication)
            plan = plan_push(publication, overwrite=overwrite, private=private, eval_results=options.eval_results)
        if not dry_run:
            _execute(plan, publication, private=private, options=options)
    return plan


def _refuse_unpatched(publication: Publication) -> None:
    if is_unpatched(publication.source.selected):
        result = "`main` would be a copy of the base"
        if publication.delta:
            result = "the patch would be applied at alpha 0 unless another alpha is named, and change nothing"
        raise InputError(
            f"Nothing was patched in {publication.run.path}: alpha 0 was chosen, so {result}. Choose again with "
            "`hf-paint select`, or push it with --yes (in Python, with PushOptions(allow_unpatched=True))."
        )


def create_repository(repo_id: str, *, private: bool | None) -> str:
    """Create a repository unless it exists, and return its first commit.

    Raises:
        InputError: If there is no token, or its account cannot write to the repository.
        JobError: If the Hub rejects a request or cannot be reached.
    """
    with hub_errors(f"Creating {repo_id} failed"):
        if get_token() is None:
            raise LocalTokenNotFoundError
        check_owner(HfApi().whoami(), repo_id)
    return _create(repo_id, private=private)


def _create(repo_id: str, *, private: bool | None) -> str:
    api = HfApi()
    with hub_errors(f"Creating {repo_id} failed"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return api.list_repo_commits(repo_id)[-1].commit_id


def _execute(plan: PushPlan, publication: Publication, *, private: bool | None, options: PushOptions) -> None:
    api, repo_id = HfApi(), plan.repo_id
    remove_leftovers(publication.run.path)
    first = _create(repo_id, private=private)  # an empty commit, unlike `main`, which may have other weights
    pending = [branch for branch in plan.branches if branch.action != "keep"]
    for done, branch in enumerate(tqdm(pending, "Pushing", unit="branch")):
        progress = f"{len(plan.branches) - len(pending) + done} of {len(plan.branches)} branches are complete"
        with hub_errors(f"Pushing the branch {branch.name} of {repo_id} failed ({progress})"):
            if branch.commit is None and branch.name != "main":
                api.create_branch(repo_id, branch=branch.name, revision=first, exist_ok=True)
            _upload(api, repo_id, branch, publication, eval_results=options.eval_results)
    with hub_errors(f"All branches of {repo_id} are complete, but setting the tag or the collection failed"):
        if options.tag is not None:
            _tag(api, repo_id, options.tag)
        if options.collection is not None:
            api.add_collection_item(options.collection, item_id=repo_id, item_type="model", exists_ok=True)


def _upload(api: HfApi, repo_id: str, branch: Branch, publication: Publication, *, eval_results: bool) -> None:
    """Upload the files of a branch in one commit, so that weights always come with their card."""
    with temporary_folder(publication.run.path, "push") as temporary:
        folder = temporary / branch.name
        message = "Update the card"
        if branch.action != "update card":
            publication.write_model(branch.alpha, folder)
            message = publication.title(branch.alpha)
        results = publication.eval_results(branch.alpha) if eval_results else {}
        for name, content in publication.description(branch.name, branch.card, results).items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=branch.name,
            commit_message=message,
            parent_commit=branch.commit,
            ignore_patterns=MANIFEST,
            delete_patterns=_stale_files(branch.action, publication.run.report.name),
        )


def _stale_files(action: Action, report: str) -> list[str]:
    """Return patterns for files to delete unless they are uploaded again."""
    patterns = {"replace": ["*"], "update card": [example_plot("*"), report]}
    return patterns.get(action, [])


def _tag(api: HfApi, repo_id: str, tag: str) -> None:
    """Tag `main`, unless it already has the tag."""
    refs = api.list_repo_refs(repo_id)
    [main] = [branch.target_commit for branch in refs.branches if branch.name == "main"]
    if main not in [ref.target_commit for ref in refs.tags if ref.name == tag]:
        api.create_tag(repo_id, tag=tag, revision=main)
