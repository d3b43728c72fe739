"""`PaintTrainer`: a `transformers.Trainer` that fine-tunes the image tower against a zero-shot head, or with it."""

import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import PreTrainedModel, ProcessorMixin, TrainerCallback
from transformers.trainer import TRAINING_ARGS_NAME
from transformers.trainer_utils import TrainOutput, speed_metrics

from hf_paint.adapters.lora import add_lora, save_lora
from hf_paint.data.images import collate
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import EpochCallback
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.predictions import score
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.models.classifier import ClassificationHead, image_classifier
from hf_paint.models.heads import ZeroShotHead
from hf_paint.models.towers import attention, image_tower
from hf_paint.tasks.task import Task
from hf_paint.training.hub_trainer import HubTrainer, check_hub_strategy
from hf_paint.training.sharding import check_checkpoint, check_sharding, is_sharded
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.training.training_set import make_training_set
from hf_paint.weights.headers import HEAD_WEIGHT


class PaintTrainer(HubTrainer):
    """Fine-tune the image tower of a CLIP model on one task (PAINT, Section 2), or on several jointly (Section 5).

    `vision_model.*` and `visual_projection` are trained; the head is made of text embeddings and frozen, and the text
    tower takes no part in a step. The CLIP model that is passed in is trained in place, and every checkpoint is a
    complete CLIP repository. With `args.use_peft` a LoRA adapter of the image tower is trained instead: checkpoints
    are adapters in peft's format, and `trainer.model.merge_and_unload()` merges what was trained into the CLIP model.

    With `args.train_head` the head is trained too (WiSE-FT, Section 3): it is part of the model that is trained, and
    its files lie beside those of every checkpoint. `evaluate()` uses it for the train task, and zero-shot heads for
    the others.

    The loss is the mean cross-entropy over the images of a step, in whichever process and micro-batch they are, and
    the image tower is called through its wrapper, so that several processes see the same gradients. Where weights are
    sharded (FSDP2, ZeRO), `save_model`, called by all processes, saves them whole; the model itself stays sharded.

    Args:
        model: The model to be trained, in float32, on the device of the training.
        args: The training arguments.
        train_task: The task to be trained on: its train split, with its head. Or several tasks: each image against the
            head of its own task, each task as often as `args.task_sampling` says. Or else:
        train_dataset: Examples with `pixel_values` (3, height, width), uint8, and `labels` (an integer), and
        head: the head that their labels index.
        eval_tasks: The tasks of `evaluate()`, on their validation splits.
        processing_class: The processor of the model; it makes the pixels and is saved with every checkpoint.
        callbacks: More callbacks.

    Raises:
        InputError: If the arguments do not fit together, or a task cannot be used.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> trainer = PaintTrainer(model, args, train_task=task, processing_class=processor)
        >>> trainer.train().global_step
        2
    """

    def __init__(
        self,
        model: PreTrainedModel,
        args: PaintTrainingArguments,
        *,
        train_task: Task | Sequence[Task] | None = None,
        train_dataset: Dataset[Any] | None = None,
        head: ZeroShotHead | None = None,
        eval_tasks: Sequence[Task] = (),
        processing_class: ProcessorMixin,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        train_tasks = [train_task] if isinstance(train_task, Task) else list(train_task or ())
        if bool(train_tasks) == (train_dataset is not None) or (train_dataset is None) != (head is None):
            raise InputError("Pass either `train_task`, or `train_dataset` together with its `head`.")
        check_hub_strategy(args)
        model.float()
        if train_tasks:
            train_dataset, head = make_training_set(train_tasks, model, processing_class, args)
        self.transform = PixelTransform(processing_class)
        trained = _new_head(train_tasks, cast(ZeroShotHead, head), args) if args.train_head else None
        self.clip_model, self.train_tasks, self.trained_head = model, train_tasks, trained
        self.tasks = self._prepare(eval_tasks, processing_class)
        tower = (image_tower(model) if trained is None else image_classifier(model, trained)).train()
        if args.gradient_checkpointing and not any(hasattr(m, "gradient_checkpointing") for m in tower.modules()):
            raise InputError("This image tower has no layers to compute twice: leave out `gradient_checkpointing`.")
        # transformers would announce that it copies these from the tokenizer; they mean nothing to the image tower
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(tower.config, token, getattr(processing_class.tokenizer, token))
        super().__init__(
            add_lora(tower, args) if args.use_peft else tower,
            args,
            data_collator=collate,
            train_dataset=train_dataset,
            eval_dataset={task.task.name: task.images["validation"] for task in self.tasks} or None,
            processing_class=processing_class,
            callbacks=[EpochCallback(train_dataset), *callbacks],
        )
        check_sharding(self.accelerator, args, callbacks)
        if not is_sharded(self.accelerator):
            cast(nn.Module, model).to(args.device)  # the text tower too: a model is on one device
        self.model_accepts_loss_kwargs = True  # the loss counts the images of the step
        self.head = cast(ZeroShotHead, head).to(args.device)
        self.evaluator = Evaluator(
            self.accelerator,
            batch_size=args.per_device_eval_batch_size,
            inference_mode=not is_sharded(self.accelerator),
        )

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train as `Trainer.train` does; on a CPU in bfloat16, with the attention that is fast there.

        The backward pass of torch's fused attention takes three times as long in bfloat16 as in float32 on a CPU.

        Raises:
            InputError: If the checkpoint is of a training that spread its weights over processes in another way.
        """
        if isinstance(resume_from_checkpoint, str):
            check_checkpoint(self.accelerator, resume_from_checkpoint)
        with attention(self.model, "eager") if self.args.bf16 and self.args.device.type == "cpu" else nullcontext():
            return super().train(resume_from_checkpoint, *args, **kwargs)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return what the batch adds to the mean loss over the step, with label smoothing if asked for.

        A trained head is called by the model: what a wrapper does not see takes no part in its gradients.
        """
        outputs = model(pixel_values=self.transform.normalize(inputs["pixel_values"]))
        smoothing = self.args.label_smoothing_factor
        if self.args.train_head:
            loss = functional.cross_entropy(outputs.logits, inputs["labels"], label_smoothing=smoothing)
        else:
            loss = self.head.loss(outputs.image_embeds.float(), inputs["labels"], label_smoothing=smoothing)
        loss = self.share_of_step(loss, inputs, num_items_in_batch)
        if not return_outputs:
            return loss
        return loss, {"logits": outputs.logits if self.args.train_head else self.head(outputs.image_embeds.float())}

    def evaluate(  # type: ignore[override]
        self,
        eval_dataset: Sequence[Task] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate the model as it is now on the validation split of each task.

        Args:
            eval_dataset: Tasks, instead of the `eval_tasks` that the trainer was made with.
            ignore_keys: Not used; it is there for the signature of `Trainer.evaluate`.
            metric_key_prefix: What the names of the metrics start with.

        Returns:
            `eval_<task>_accuracy`, `_loss` and what else `Result.metrics` has of each task, such as `_attack_success`,
            and `eval_mean_accuracy`, the unweighted mean: each of them can be `metric_for_best_model`.

        Raises:
            InputError: If there are no tasks, or a task has no validation split.
        """
        tasks = self.tasks
        if eval_dataset is not None:
            tasks = self._prepare(eval_dataset, self.processing_class)
        if not tasks:
            raise InputError("There is nothing to evaluate: make the trainer with `eval_tasks`.")
        start = time.time()
        metrics = self._metrics(tasks, metric_key_prefix)
        metrics |= speed_metrics(metric_key_prefix, start)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _prepare(self, tasks: Sequence[Task], processor: ProcessorMixin) -> list[PreparedTask]:
        """Prepare tasks for `evaluate`, the train task with the head that is trained."""
        prepared = [prepare_task(task, self.clip_model, processor, splits=("validation",)) for task in tasks]
        if self.trained_head is None:
            return prepared
        head = self.trained_head
        return [task.with_rows_of(head.class_names) if task.task.name == head.task else task for task in prepared]

    def _metrics(self, tasks: Sequence[PreparedTask], prefix: str) -> dict[str, float]:
        training = self.model.training
        self.model.train(False)
        metrics: dict[str, float] = {}
        accuracies = []
        for task in tasks:
            scores = score(self.evaluator.predict(self.model, task, "validation"), task, "validation")
            accuracies.append(scores.accuracy)
            metrics |= {f"{prefix}_{task.task.name}_{name}": value for name, value in scores.metrics.items()}
        metrics[f"{prefix}_mean_accuracy"] = sum(accuracies) / len(accuracies)
        self.model.train(training)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save a complete CLIP repository or the adapter, and what the trainer itself keeps."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or str(self.args.output_dir))
        save_lora(cast(Any, self.model), folder) if self.args.use_peft else self._save_clip(folder, state_dict)
        torch.save(self.args, folder / TRAINING_ARGS_NAME)

    def _issue_warnings_after_load(self, load_result: Any) -> None:
        """Refuse a checkpoint that lacks tensors; those of the text tower are expected to be left over."""
        missing = [name for name in load_result.missing_keys if name != HEAD_WEIGHT]  # that lies in a file of its own
        if missing:
            raise InputError(f"The checkpoint lacks tensors of the image tower: {missing[:3]}.")


def _new_head(tasks: Sequence[Task], head: ZeroShotHead, args: PaintTrainingArguments) -> ClassificationHead:
    """Return the head with which a training of head and image tower begins, that of its one task.

    Raises:
        InputError: If it is not one task with one name for each class, or the arguments ask for more than that.
    """
    if args.freeze_tower or args.head_steps:
        raise InputError(
            "PaintTrainer trains head and image tower together. For `freeze_tower` and `head_steps` there is "
            "HeadTrainer, and `patch_single` uses both trainers."
        )
    if len(tasks) != 1 or tasks[0].class_groups is not None:
        raise InputError("`train_head` trains the head of one `train_task`, which has one name for each class.")
    [task] = tasks
    class_names = load_splits(task, ("train",))["train"].class_names
    return ClassificationHead.from_zero_shot(head, class_names, templates=task.templates, task=task.name)
