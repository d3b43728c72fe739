"""Publishing complete model repositories from a `Trainer`, without the other files in its output folder."""

import logging
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from tempfile import TemporaryDirectory

from huggingface_hub import CommitInfo, HfApi, create_branch, list_repo_commits, run_as_future, upload_folder
from transformers import Trainer, TrainingArguments
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress

from hf_paint.errors import InputError
from hf_paint.temporary import own_prefix, remove_leftovers


logger: logging.Logger = logging.getLogger(__name__)


class HubMixin(Trainer):
    """Publish complete model repositories, controlled by the `hub_*` training arguments.

    `Trainer` uploads its output folder, which contains pickled arguments and local paths, and fails if the branch
    `hub_revision` does not exist. This mixin creates the branch, writes the repository to a temporary folder and
    uploads it in one commit. Subclasses implement `save_repository` and `model_card`.
    """

    hub_model_id: str | None  # type: ignore[assignment]
    push_in_progress: PushInProgress | None  # type: ignore[assignment]

    def save_repository(self, folder: Path) -> None:
        """Save the current model to a folder, without its card."""
        raise NotImplementedError

    def model_card(self, **metadata: object) -> str:
        """Return the card of the current model, with metadata fields overridden by `metadata`."""
        raise NotImplementedError

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Create the repository and the branch `hub_revision` before training, unless they exist."""
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name
        token = token or self.args.hub_token
        private = self.args.hub_private_repo if private is None else private
        self.hub_model_id = HfApi().create_repo(name, token=token, private=private, exist_ok=True).repo_id
        self.push_in_progress = None
        self._create_branch(self.args.hub_revision, token)

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **metadata: object,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Publish the current model in one commit: both towers, config, processor, tokenizer and card.

        Args:
            commit_message: Commit message.
            blocking: Whether to wait for the upload to finish.
            token: Hub token to use instead of `hub_token`.
            revision: Branch to use instead of `hub_revision`; created if needed.
            private: Whether a new repository is private; overrides `hub_private_repo`.
            metadata: Card metadata to override, for example `license` and `tags`.

        Returns:
            The commit, or a future if `blocking` is False; None on all processes except the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_world_process_zero():
            return None
        token, revision = token or self.args.hub_token, revision or self.args.hub_revision
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self._create_branch(revision, token)
        self._finish_current_push()
        repository = self._repository(metadata)
        if blocking:
            return self._upload(repository, commit_message, revision, token)
        return run_as_future(self._upload, repository, commit_message, revision, token)

    def create_model_card(self, **metadata: object) -> None:  # type: ignore[override]
        """Write the card to `README.md` in the output folder, with metadata overridden by `metadata`."""
        if self.is_world_process_zero():
            (Path(str(self.args.output_dir)) / "README.md").write_text(self.model_card(**metadata), encoding="utf-8")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Push in the background after a save; skipped while a push is running, unless `hub_always_push` is set."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        running = self._running_pushes()
        if running and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        repository = self._repository({})
        push = run_as_future(self._try_to_upload, repository, message, self.args.hub_revision, self.args.hub_token)
        self.push_in_progress = PushInProgress([*running, push])  # type: ignore[arg-type]

    def _running_pushes(self) -> Sequence[Future[object]]:
        jobs: Sequence[Future[object]] = self.push_in_progress.jobs if self.push_in_progress else []  # type: ignore[assignment]
        return [job for job in jobs if not job.done()]

    def _create_branch(self, name: str | None, token: str | None) -> None:
        """Create a branch from the first commit, which is empty, since `main` may contain other weights."""
        if name is not None and self.hub_model_id is not None:
            first = list_repo_commits(self.hub_model_id, token=token)[-1].commit_id
            create_branch(self.hub_model_id, branch=name, revision=first, token=token, exist_ok=True)

    def _repository(self, metadata: dict[str, object]) -> TemporaryDirectory[str]:
        """Write the repository to a temporary folder, so that later steps do not affect a background push."""
        remove_leftovers(Path(str(self.args.output_dir)))
        temporary = TemporaryDirectory(dir=self.args.output_dir, prefix=own_prefix("push"))
        folder = Path(temporary.name)
        self.save_repository(folder)
        (folder / "README.md").write_text(self.model_card(**metadata), encoding="utf-8")
        return temporary

    def _upload(
        self, repository: TemporaryDirectory[str], message: str | None, revision: str | None, token: str | None
    ) -> CommitInfo:
        with repository as folder:
            return upload_folder(
                repo_id=str(self.hub_model_id),
                folder_path=folder,
                commit_message=message,
                revision=revision,
                token=token,
            )

    def _try_to_upload(
        self, repository: TemporaryDirectory[str], message: str, revision: str | None, token: str | None
    ) -> None:
        """Upload, and log a failure instead of ending training."""
        try:
            self._upload(repository, message, revision, token)
        except Exception as error:  # the network, the Hub and the disk can fail in many ways
            logger.warning("A background push failed; training continues: %s", error)


def check_hub_strategy(args: TrainingArguments) -> None:
    """Check that `hub_strategy` publishes models rather than checkpoints.

    Raises:
        InputError: If `hub_strategy` is `checkpoint` or `all_checkpoints`.
    """
    if args.push_to_hub and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise InputError(
            f"`hub_strategy: {HubStrategy(args.hub_strategy).value}` would publish the training state (optimizer, "
            "pickled arguments). Use `end` or `every_save`, which publish only the model."
        )
