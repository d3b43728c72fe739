"""Publishing a run: one repository, the chosen model on `main`, every alpha on a branch. Planned first, then done."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from filelock import FileLock, Timeout
from huggingface_hub import HfApi
from tqdm.auto import tqdm

from hf_paint.adapters.patch_config import PatchDtype
from hf_paint.errors import InputError
from hf_paint.hub.errors import said_clearly
from hf_paint.hub.plan import Branch, PushPlan, plan_push
from hf_paint.hub.publication import Publication
from hf_paint.results.run_folder import PUSH_PREFIX, example_plot


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions:
    """What a push needs now and then.

    Attributes:
        form: `variants`, or `delta`: only `theta_1 - theta_0`, a small file on `main` that `apply_patch` applies.
        delta_dtype: How a delta is stored; `bfloat16` takes half the space.
        base_model_id: The id of the base on the Hub, where the run started from a folder.
        tag: Also tag `main`.
        collection: Also add the repository to the collection of this slug.
        eval_results: Also write `.eval_results/`.
    """

    form: Literal["variants", "delta"] = "variants"
    delta_dtype: PatchDtype = "float32"
    base_model_id: str | None = None
    tag: str | None = None
    collection: str | None = None
    eval_results: bool = False


class HasRunFolder(Protocol):
    """The result of a patching strategy."""

    @property
    def run_folder(self) -> Path:
        """The folder of the run."""


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
    """Publish a run as one repository: `main` is the chosen model, `alpha-0.00` to `alpha-1.00` are the others.

    Each branch is a complete CLIP repository with its card, uploaded in one commit. A branch that already holds these
    weights is left alone, so that a push that was interrupted goes on where it stopped. `main` comes last.

    Args:
        run: The result of a patching strategy, or its run folder.
        repo_id: Such as `me/clip-mnist`; the repository is made if it does not exist.
        alphas: Which alphas get a branch; all that were evaluated by default.
        private: Whether a repository that is made is private; the default of the account if None.
        overwrite: Replace branches that hold other weights.
        dry_run: Only plan; nothing is touched.
        options: What a push needs now and then.

    Returns:
        The plan that was carried out, or would be.

    Raises:
        InputError: If the run has no chosen alpha, its base has no id on the Hub, an alpha was not evaluated, or a
            branch holds other weights.
        JobError: If the Hub refuses or cannot be reached; start the same push again to go on.

    Example:
        >>> push_variants("runs/mnist", "me/clip-mnist", private=True)  # doctest: +SKIP
    """
    options = options or PushOptions()
    folder = Path(run) if isinstance(run, str | Path) else run.run_folder
    with said_clearly(f"Planning the push to {repo_id} failed"):
        publication = Publication.from_run(
            folder,
            repo_id,
            alphas=alphas,
            base_model_id=options.base_model_id,
            delta=options.delta_dtype if options.form == "delta" else None,
        )
        plan = plan_push(publication, overwrite=overwrite, private=private, eval_results=options.eval_results)
    if not dry_run:
        try:
            with FileLock(publication.run.push_lock, timeout=0):
                _carry_out(plan, publication, private=private, options=options)
        except Timeout:
            raise InputError(f"Another process is pushing the run in {folder}. Wait for it.") from None
    return plan


def make_repository(repo_id: str, *, private: bool | None) -> str:
    """Make a repository if it does not exist, and return its first commit.

    Raises:
        JobError: If the Hub refuses or cannot be reached.
    """
    api = HfApi()
    with said_clearly(f"Making {repo_id} failed"):
        api.create_repo(repo_id, private=private, exist_ok=True)
        return api.list_repo_commits(repo_id)[-1].commit_id


def _carry_out(plan: PushPlan, publication: Publication, *, private: bool | None, options: PushOptions) -> None:
    api, repo_id = HfApi(), plan.repo_id
    publication.clean_up()
    first = make_repository(repo_id, private=private)  # empty: a branch from `main` could hold its weights
    pending = [branch for branch in plan.branches if branch.action != "keep"]
    for done, branch in enumerate(tqdm(pending, "Pushing", unit="branch")):
        progress = f"{len(plan.branches) - len(pending) + done} of {len(plan.branches)} branches are complete"
        with said_clearly(f"Pushing the branch {branch.name} of {repo_id} failed ({progress})"):
            if branch.head is None and branch.name != "main":
                api.create_branch(repo_id, branch=branch.name, revision=first, exist_ok=True)
            _upload(api, repo_id, branch, publication, eval_results=options.eval_results)
    with said_clearly(f"All branches of {repo_id} are complete, but adding the tag or to the collection failed"):
        if options.tag is not None:
            _tag(api, repo_id, options.tag)
        if options.collection is not None:
            api.add_collection_item(options.collection, item_id=repo_id, item_type="model", exists_ok=True)


def _upload(api: HfApi, repo_id: str, branch: Branch, publication: Publication, *, eval_results: bool) -> None:
    """Make the files of one branch, and upload them in one commit: never weights without their card."""
    with tempfile.TemporaryDirectory(dir=publication.run.path, prefix=PUSH_PREFIX) as temporary:
        folder = Path(temporary) / branch.name
        if branch.action != "update card":
            publication.make_model(branch.alpha, folder)
        publication.write_card(branch.card, folder, publication.eval_results(branch.alpha) if eval_results else {})
        api.upload_folder(
            repo_id=repo_id,
            folder_path=folder,
            revision=branch.name,
            commit_message="Update the card" if branch.action == "update card" else publication.title(branch.alpha),
            parent_commit=branch.head,
            delete_patterns={"replace": "*", "update card": example_plot("*")}.get(branch.action),
        )


def _tag(api: HfApi, repo_id: str, tag: str) -> None:
    """Tag `main`; a tag that is there already is not moved."""
    refs = api.list_repo_refs(repo_id)
    [main] = [branch.target_commit for branch in refs.branches if branch.name == "main"]
    if main not in [ref.target_commit for ref in refs.tags if ref.name == tag]:
        api.create_tag(repo_id, tag=tag, revision=main)
