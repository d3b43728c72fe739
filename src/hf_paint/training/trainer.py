"""`PaintTrainer`, a `transformers.Trainer` that fine-tunes the image tower of a CLIP model for patching."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainingArguments
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import TrainOutput

from hf_paint.data.images import collate
from hf_paint.data.resampling import resize
from hf_paint.data.training_images import EpochCallback
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.given_tasks import EvaluationSets
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.given import ModelLike, load_given
from hf_paint.models.heads import ZeroShotHead
from hf_paint.models.towers import attention, move
from hf_paint.tasks.registry import TaskLike
from hf_paint.tasks.task import Task
from hf_paint.training.arithmetic import LinearLayers, say_tf32
from hf_paint.training.callbacks import CallbackLike, made, with_metric
from hf_paint.training.evaluation_mixin import EvaluationMixin
from hf_paint.training.hub_mixin import HubMixin, check_hub_strategy
from hf_paint.training.model_card import FineTuning, last_accuracies, render_fine_tuned_card
from hf_paint.training.regularization_mixin import RegularizationMixin
from hf_paint.training.sharding import check_checkpoint, check_sharding, is_sharded, load_complete_models
from hf_paint.training.trained_clip import TrainedClip
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.training.training_set import make_training_set
from hf_paint.training.workers import WorkerSeeds, with_workers
from hf_paint.weights.headers import HEAD_WEIGHT


class PaintTrainer(HubMixin, EvaluationMixin, RegularizationMixin):
    """Fine-tune the image tower of a CLIP model on one task (PAINT, Section 2), or on several jointly (Section 5).

    `vision_model.*` and `visual_projection` are trained against a frozen head made of text embeddings, so training
    steps do not run the text tower. The model is trained in place, and every checkpoint is a complete CLIP repository.
    With `args.use_peft`, a LoRA adapter for the image tower is trained instead: checkpoints are adapters in peft's
    format, and `trainer.model.merge_and_unload()` merges the adapter into the CLIP model.

    With `args.train_head`, the head is trained too (WiSE-FT, Section 3): it is part of `trainer.model` and
    saved in every checkpoint. `evaluate()` uses it for the train task, and zero-shot heads for the other tasks.

    The loss is the mean cross-entropy over the images of a step, no matter how they are spread over processes and
    micro-batches. With sharded weights (FSDP2, ZeRO), call `save_model` on all processes: it gathers and saves the
    complete weights, while the model itself stays sharded.

    Args:
        model: CLIP model, trained in place in float32 on the training device; a Hub repository id or a folder is
            loaded.
        args: Training arguments. Plain `transformers.TrainingArguments` keep the values they hold.
        train_task: Task, or what `get_task` makes one of, whose train split to train on. Several tasks are sampled
            according to `args.task_sampling`, and each image is compared with the classes of its own task.
        replay_tasks: Tasks whose train images are mixed into those of `train_task`, so that the model does not forget
            them; `args.replay_share` of the images are theirs. Each is compared with the classes of its own task.
        train_dataset: Data set to use instead of `train_task`. Its examples have `pixel_values` (3, height, width) of
            type uint8 and `labels`, an integer or a list of them. A `datasets.Dataset` may have an image and a label
            column instead.
        head: Zero-shot head for `train_dataset`; its labels index the rows of the head. A `datasets.Dataset` whose
            labels are a `ClassLabel` needs none.
        eval_tasks: Tasks that `evaluate()` evaluates on their validation splits, or other data (see `evaluate`).
        processing_class: Processor of the model, used to preprocess images and saved with every checkpoint; by
            default, the one in the model's repository or folder.
        callbacks: Additional callbacks, or their classes.

    Raises:
        InputError: If the model cannot be loaded, arguments contradict each other, or a task cannot be used.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> trainer = PaintTrainer(model, args, train_task=task, processing_class=processor)
        >>> trainer.train().global_step
        2
    """

    model: PreTrainedModel
    processing_class: ProcessorMixin

    def __init__(  # noqa: PLR0913  (`Trainer` takes even more)
        self,
        model: ModelLike,
        args: TrainingArguments | None = None,
        *,
        train_task: TaskLike | Sequence[TaskLike] | None = None,
        replay_tasks: TaskLike | Sequence[TaskLike] = (),
        train_dataset: Dataset[Any] | None = None,
        head: ZeroShotHead | None = None,
        eval_tasks: EvaluationSets = (),
        processing_class: ProcessorMixin | None = None,
        callbacks: Sequence[CallbackLike] = (),
    ) -> None:
        args = PaintTrainingArguments.of(PaintTrainingArguments() if args is None else args)
        check_hub_strategy(args)
        callbacks = made(callbacks)
        args = with_metric(args, callbacks)
        model, processing_class = load_given(model, processing_class)
        model.float()
        training_set = make_training_set(
            model,
            processing_class,
            args,
            train_task=train_task,
            replay_tasks=replay_tasks,
            train_dataset=train_dataset,
            head=head,
        )
        args = with_workers(args, training_set.images)
        trained_head = training_set.trainable_head(args) if args.train_head else None
        clip = TrainedClip(model, processing_class, trained_head, args)
        tasks = clip.prepare(eval_tasks, "validation")
        super().__init__(
            clip.tower,
            args,
            data_collator=collate,
            train_dataset=training_set.images,
            eval_dataset={task.task.name: task.images["validation"] for task in tasks} or None,
            processing_class=processing_class,
            callbacks=[EpochCallback(training_set.images), WorkerSeeds(), LinearLayers(args.onednn), *callbacks],
        )
        check_sharding(self.accelerator, args, callbacks)
        load_complete_models(self.accelerator)
        if not is_sharded(self.accelerator):
            move(model, args.device)  # the text tower too, so that the whole model is on one device
        self.clip: TrainedClip = clip
        self.clip_model: PreTrainedModel = model
        self.train_tasks: Sequence[Task] = training_set.tasks
        self.replay_tasks: Sequence[Task] = training_set.replay_tasks
        self.tasks: list[PreparedTask] = tasks
        self.transform: PixelTransform = PixelTransform(processing_class)
        self.head: ZeroShotHead = training_set.head.to(args.device)
        self.evaluator: Evaluator = Evaluator(self.accelerator, batch_size=args.given_eval_batch_size)

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train like `Trainer.train`, but with eager attention if training in bfloat16 on a CPU.

        The backward pass of torch's fused attention is three times slower in bfloat16 than in float32 on a CPU.

        Raises:
            InputError: If the weights of the checkpoint were sharded differently.
        """
        if isinstance(resume_from_checkpoint, str):
            check_checkpoint(self.accelerator, resume_from_checkpoint)
        say_tf32(self.args)
        with attention(self.model, "eager") if self.args.bf16 and self.args.device.type == "cpu" else nullcontext():
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a micro-batch on the training device, with its crops resized to `pixel_values` there."""
        batch = super().on_device(batch)
        if "crops" in batch:
            edge, resample = self.transform.crop_size, self.transform.resample
            batch["pixel_values"] = resize(batch.pop("crops"), batch.pop("sizes"), edge, resample)
        return batch

    def features(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return image embeddings (batch, embed_dim), or logits (batch, num_classes) if a head is trained.

        A trained head is called inside the model, because distributed wrappers synchronise only their own modules.
        """
        outputs = model(pixel_values=self.transform.normalize(inputs["pixel_values"]))
        features: Tensor = outputs.image_embeds.float() if self.clip.head is None else outputs.logits
        return features

    def mean_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean loss of the head, with `label_smoothing_factor` applied."""
        if self.clip.head is not None:
            return super().mean_loss(features, labels)
        return self.head.loss(features, labels, label_smoothing=self.args.label_smoothing_factor)

    def logits(self, features: Tensor) -> Tensor:
        """Convert features to logits (batch, num_classes)."""
        logits: Tensor = self.head(features) if self.clip.head is None else features
        return logits

    def save_repository(self, folder: Path) -> None:
        """Save a complete CLIP repository with the trained image tower, and the trained head if there is one."""
        self.clip.save(folder)

    def model_card(self, **metadata: object) -> str:
        """Return the card of the current model, with metadata fields overridden by `metadata`."""
        step = self._step()
        fine_tuning = FineTuning(
            base=self.clip_model.name_or_path or "",
            model_type=self.clip_model.config.model_type,
            repo_id=self.hub_model_id,
            args=self.args,
            steps=step,
            train_tasks=self.train_tasks,
            replay_tasks=self.replay_tasks,
            eval_tasks=[task.task for task in self.tasks],
            accuracies=last_accuracies(self.state.log_history, step),
        )
        return render_fine_tuned_card(fine_tuning, **metadata)

    def _step(self) -> int:
        """Return the step of the current weights; `load_best_model_at_end` loads those of the best checkpoint."""
        best = self.state.best_global_step if self.args.load_best_model_at_end and not self.is_in_train else None
        return best or self.state.global_step

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save a complete CLIP repository or the adapter, plus the training arguments."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        self.clip.save_checkpoint(folder, state_dict)
        torch.save(self.args, folder / TRAINING_ARGS_NAME)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        self.clip.load_head(resume_from_checkpoint)

    def _load_best_model(self) -> None:
        super()._load_best_model()
        self.clip.load_head(str(self.state.best_model_checkpoint))

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Reject a checkpoint without all image tower tensors; its text tower tensors are expected to be unused."""
        missing = [name for name in load_result.missing_keys if name != HEAD_WEIGHT]  # saved in a separate file
        if missing:
            raise InputError(f"The checkpoint lacks image tower tensors: {missing[:3]}.")
