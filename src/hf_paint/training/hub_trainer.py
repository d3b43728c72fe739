"""What `PaintTrainer` publishes: a complete CLIP repository with its card, and nothing else of its output folder."""

import logging
import re
from collections.abc import Sequence
from concurrent.futures import Future
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

from huggingface_hub import CommitInfo, HfApi, create_branch, list_repo_commits, run_as_future, upload_folder
from torch import Tensor
from transformers import PreTrainedModel, ProcessorMixin
from transformers.trainer_utils import HubStrategy
from transformers.utils.hub import PushInProgress

from hf_paint.errors import InputError
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.classifier import ClassificationHead, ImageClassifier
from hf_paint.models.loading import save_clip
from hf_paint.models.towers import ImageTower
from hf_paint.tasks.task import Task
from hf_paint.training.base_trainer import PaperTrainer
from hf_paint.training.model_card import FineTuning, render_fine_tuned_card
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.weights.layers import IMAGE_TOWER


logger = logging.getLogger(__name__)


class HubTrainer(PaperTrainer):
    """The part of `PaintTrainer` that writes to the Hub, with the `hub_*` arguments of transformers.

    `Trainer` uploads its output folder, which holds pickled arguments and local paths, and leaves it to others to make
    the branch of `hub_revision`. Here the repository is made in a temporary folder and uploaded in one commit.
    """

    model: ImageTower
    processing_class: ProcessorMixin
    clip_model: PreTrainedModel
    train_tasks: Sequence[Task]
    tasks: Sequence[PreparedTask]
    hub_model_id: str | None  # type: ignore[assignment]
    push_in_progress: PushInProgress | None  # type: ignore[assignment]

    def init_hf_repo(self, token: str | None = None, private: bool | None = None) -> None:
        """Make the repository and the branch of `hub_revision` where they do not exist, before the training."""
        if not self.is_world_process_zero():
            return
        name = self.args.hub_model_id or Path(str(self.args.output_dir)).absolute().name
        token = token or self.args.hub_token
        private = self.args.hub_private_repo if private is None else private
        self.hub_model_id = HfApi().create_repo(name, token=token, private=private, exist_ok=True).repo_id
        self.push_in_progress = None
        self._make_branch(self.args.hub_revision, token)

    def push_to_hub(  # type: ignore[override]
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **metadata: Any,
    ) -> CommitInfo | Future[CommitInfo] | None:
        """Publish the model as it is now: both towers, config, processor, tokenizer and card, in one commit.

        Args:
            commit_message: The message of the commit.
            blocking: Whether to wait for the upload.
            token: A token, instead of `hub_token`.
            revision: A branch, instead of `hub_revision`; it is made if it does not exist.
            private: Whether a repository that is made is private, instead of `hub_private_repo`.
            metadata: Metadata of the card that is to win over its own, such as `license` and `tags`.

        Returns:
            The commit, or its future if not `blocking`; None on every process but the first.
        """
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if not self.is_world_process_zero():
            return None
        token, revision = token or self.args.hub_token, revision or self.args.hub_revision
        if self.hub_model_id is None:
            self.init_hf_repo(token, private)
        self._make_branch(revision, token)
        self._finish_current_push()
        push = commit_message, revision, token
        repository = self._make_repository(metadata)
        return self._upload(repository, *push) if blocking else run_as_future(self._upload, repository, *push)

    def create_model_card(self, **metadata: Any) -> None:  # type: ignore[override]
        """Write the card to `README.md` of the output folder; `metadata` wins over its own."""
        if self.is_world_process_zero():
            (Path(str(self.args.output_dir)) / "README.md").write_text(self._card(metadata), encoding="utf-8")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Publish the model at a save, in the background; left out while one is at work, unless `hub_always_push`."""
        if not self.is_world_process_zero() or self.args.hub_strategy == HubStrategy.END:
            return
        jobs: list[Any] = self.push_in_progress.jobs if self.push_in_progress else []  # type: ignore[assignment]
        at_work = [job for job in jobs if not job.done()]
        if at_work and not self.args.hub_always_push:
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        message = f"Training in progress, step {self.state.global_step}"
        push = message, self.args.hub_revision, self.args.hub_token
        job = run_as_future(self._try_to_upload, self._make_repository({}), *push)
        self.push_in_progress = PushInProgress([*at_work, job])  # type: ignore[arg-type]

    def _save_clip(self, folder: str | Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save a complete CLIP repository instead of the image tower alone, and a trained head beside it."""
        model = deepcopy(cast(Any, self.model)).merge_and_unload() if self.args.use_peft else self.model
        clip, tower = self.clip_model.state_dict(), state_dict or model.state_dict()
        weights = {name: tensor for name, tensor in clip.items() if not name.startswith(IMAGE_TOWER)}
        weights |= {name: tensor for name, tensor in tower.items() if name.startswith(IMAGE_TOWER)}
        save_clip(self.clip_model, self.processing_class, folder, state_dict=weights)
        if isinstance(self.model, ImageClassifier):
            self.model.head.save(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self._load_head(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self._load_head(str(self.state.best_model_checkpoint))

    def _load_head(self, checkpoint: str) -> None:
        if isinstance(self.model, ImageClassifier):
            self.model.head.load_state_dict(ClassificationHead.load(checkpoint).state_dict())

    def _make_branch(self, name: str | None, token: str | None) -> None:
        """Make a branch from the first commit, which is empty: from `main` it could hold other weights."""
        if name is not None and self.hub_model_id is not None:
            first = list_repo_commits(self.hub_model_id, token=token)[-1].commit_id
            create_branch(self.hub_model_id, branch=name, revision=first, token=token, exist_ok=True)

    def _make_repository(self, metadata: dict[str, Any]) -> TemporaryDirectory[str]:
        """Write what is published to a folder of its own: a background push must not see the next steps."""
        temporary = TemporaryDirectory(dir=self.args.output_dir, prefix=".push-")
        self._save_clip(temporary.name)
        (Path(temporary.name) / "README.md").write_text(self._card(metadata), encoding="utf-8")
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

    def _try_to_upload(self, *push: Any) -> None:
        """Upload, or tell of the failure: it is no reason to lose a training."""
        try:
            self._upload(*push)
        except Exception as error:  # the network, the Hub and the disk have many ways to fail
            logger.warning("A push in the background failed, and the training goes on: %s", error)

    def _card(self, metadata: dict[str, Any]) -> str:
        """Return the card of the model as it is now."""
        fine_tuning = FineTuning(
            base=self.clip_model.name_or_path or "",
            model_type=self.clip_model.config.model_type,
            repo_id=self.hub_model_id,
            args=self.args,
            steps=self._step(),
            train_tasks=self.train_tasks,
            eval_tasks=[task.task for task in self.tasks],
            accuracies=self._accuracies(),
        )
        return render_fine_tuned_card(fine_tuning, **metadata)

    def _step(self) -> int:
        """Return the step of the weights, which after `load_best_model_at_end` is not the last one."""
        best = self.state.best_global_step if self.args.load_best_model_at_end and not self.is_in_train else None
        return best or self.state.global_step

    def _accuracies(self) -> dict[str, float]:
        """Return task -> accuracy of the last evaluation of these very weights; nothing if there was none."""
        for entry in reversed(self.state.log_history):
            found = {match[1]: entry[key] for key in entry if (match := re.fullmatch("eval_(.+)_accuracy", key))}
            found.pop("mean", None)
            if found and entry["step"] == self._step():
                return found
        return {}


def check_hub_strategy(args: PaintTrainingArguments) -> None:
    """Refuse to publish checkpoints.

    Raises:
        InputError: If `hub_strategy` would.
    """
    if args.push_to_hub and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise InputError(
            f"`hub_strategy: {HubStrategy(args.hub_strategy).value}` would publish the state that a training resumes "
            "from (optimizer, pickled arguments). Use `end` or `every_save`, which publish the model."
        )
