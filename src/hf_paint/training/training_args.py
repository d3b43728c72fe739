"""Training arguments: `transformers.TrainingArguments` with PAINT defaults (Section 3 and the released code)."""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
import torch
from accelerate import Accelerator, DataLoaderConfiguration
from transformers import TrainingArguments

from hf_paint.errors import InputError
from hf_paint.files import plain
from hf_paint.training.argument_checks import check_arguments
from hf_paint.training.field_types import check_field_types
from hf_paint.training.keeping_arguments import KeepingArguments
from hf_paint.training.optimization import optimizer_settings, schedule_settings
from hf_paint.training.ranges import check_ranges
from hf_paint.training.readers import defaults_of, is_default
from hf_paint.training.secrets import Secret
from hf_paint.training.unread_fields import check_fields_are_read


PAINT_MAX_STEPS = 2000
NEEDED_BY_THE_LOSS = ("remove_unused_columns", "label_names", "ddp_find_unused_parameters", "logging_nan_inf_filter")
"""Fields whose defaults in transformers would take the labels from the loss, or slow down training."""
BEST_METRIC = "eval_mean_accuracy"
"""Metric that tells the best checkpoint unless another is given; every evaluation of tasks has it."""


@dataclass
class PaintTrainingArguments(KeepingArguments):
    """`transformers.TrainingArguments` with PAINT defaults and extra fields for heads, adapters and joint training.

    The defaults follow the papers: AdamW with a learning rate of 1e-5 and weight decay 0.1 on every parameter, 2000
    steps of 128 images (the first tenth warms up), a cosine schedule, and gradients clipped to norm 1. To set the
    training length in epochs, pass `num_train_epochs` without `max_steps`.

    Raises:
        InputError: If a value is out of range, arguments are incompatible, or one would have no effect.

    Example:
        >>> PaintTrainingArguments(output_dir="clip-mnist").max_steps
        2000
    """

    learning_rate: float = field(default=1e-5, metadata={"help": "Peak learning rate of AdamW."})
    weight_decay: float = field(default=0.1, metadata={"help": "Weight decay of AdamW."})
    max_steps: int | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Number of optimizer steps; overrides num_train_epochs. Default: 2000 if neither is set."},
    )
    num_train_epochs: float | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Number of passes over the train split, used if max_steps is not set."}
    )
    warmup_steps: float = field(
        default=0.1, metadata={"help": "Number of linear warm-up steps; a value below 1 is a fraction of all steps."}
    )
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Training batch size per process."})
    per_device_eval_batch_size: int = field(
        default=128,
        metadata={"help": "Evaluation batch size per process; the default is larger on GPUs for small models."},
    )
    lr_scheduler_type: str = field(
        default="cosine",
        metadata={"help": "`cosine` is the papers' schedule; any other name is a transformers schedule."},
    )
    decay_all_parameters: bool = field(
        default=True,
        metadata={"help": "Decay every parameter, as in the papers; false exempts biases and layer norms."},
    )
    train_head: bool = field(
        default=False,
        metadata={"help": "Also train a classification head, initialised as the zero-shot head (WiSE-FT)."},
    )
    freeze_tower: bool = field(
        default=False,
        metadata={"help": "With train_head: train only the head (a linear classifier) on precomputed embeddings."},
    )
    head_steps: int = field(
        default=0,
        metadata={"help": "With train_head: number of steps that train the head alone before joint training (LP-FT)."},
    )
    head_learning_rate: float | None = field(
        default=None, metadata={"help": "Peak learning rate during head_steps; default: learning_rate."}
    )
    use_peft: bool = field(
        default=False,
        metadata={"help": "Train a LoRA adapter for the image tower instead of its weights (requires peft)."},
    )
    lora_r: int = field(default=16, metadata={"help": "With use_peft: rank of the adapter."})
    lora_alpha: float = field(
        default=32, metadata={"help": "With use_peft: the adapter is scaled by lora_alpha / lora_r."}
    )
    lora_dropout: float = field(default=0.0, metadata={"help": "With use_peft: dropout on the adapter input."})
    lora_target_modules: list[str] | None = field(
        default=None,
        metadata={
            "help": "With use_peft: names or regular expressions of the layers to adapt; default: all linear "
            "attention and MLP layers."
        },
    )
    use_rslora: bool = field(default=False, metadata={"help": "With use_peft: scale by lora_alpha / sqrt(lora_r)."})
    use_dora: bool = field(
        default=False,
        metadata={
            "help": "With use_peft: use DoRA, which is not linear in alpha: only merged weights are interpolated."
        },
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Keep false; a training whose loss is NaN or inf stops."},
    )
    tf32: bool | None = field(
        default=False,
        metadata={"help": "Round float32 inputs of products to TF32 on GPUs, which is faster and less exact."},
    )
    torch_compile: bool | None = field(  # type: ignore[assignment]
        default=None,
        metadata={"help": "Compile the layers of the image tower; default: on GPUs, for work so long that it pays."},
    )
    onednn: bool | None = field(
        default=None,
        metadata={
            "help": "On CPUs, compute float32 products of linear layers with oneDNN; default: if it is measured to be "
            "at least 15 %% faster than PyTorch's own choice."
        },
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep false; the loss needs the labels."})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Keep the default; the loss needs the labels."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "False by default, because every image tower parameter gets a gradient."}
    )

    def __setattr__(self, name: str, value: object) -> None:
        """Set a field; the Hub token is kept out of all files, also `training_args.bin` in checkpoints."""
        super().__setattr__(name, Secret(value) if name == "hub_token" and isinstance(value, str) else value)

    def __post_init__(self) -> None:
        defaults, values = defaults_of(type(self)), {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        for name, value in values.items():
            if isinstance(value, np.generic):  # which neither `random` nor YAML takes
                setattr(self, name, value.item())
        check_field_types(self)
        self._given = {name: value for name, value in values.items() if not is_default(value, defaults[name])}
        self._given.pop("hub_token", None)  # a secret does not belong in a recipe
        check_fields_are_read(self, self._given, by_any_training=True)
        check_ranges(self)
        if self.max_steps is None:
            self.max_steps = PAINT_MAX_STEPS if self.num_train_epochs is None else -1
        if self.num_train_epochs is None:
            self.num_train_epochs = 3.0
        if self.accelerator_config is None and self.dataloader_pin_memory and not self.use_cpu:
            self.accelerator_config: dict[str, bool] = {"non_blocking": True}  # copy a batch while one is computed
        if self.metric_for_best_model is None and (self.load_best_model_at_end or self.save_strategy == "best"):
            self.metric_for_best_model: str | None = BEST_METRIC  # transformers would take the loss
        precision = torch.backends.fp32_precision  # type: ignore[attr-defined]
        super().__post_init__()
        torch.backends.fp32_precision = precision  # type: ignore[attr-defined]  # a training sets its own
        self.deepspeed_plugin: None = None  # use the plugin that accelerate creates for all accelerators in a process
        self._n_gpu = min(self._n_gpu, 1)  # one process, one GPU: torch's DataParallel would change the batch size
        check_arguments(self, self._given)
        optimizer_settings(self)
        schedule_settings(self)
        check_fields_are_read(self, self._given)

    @classmethod
    def read(cls, values: Mapping[str, Any]) -> Self:
        """Return arguments from values that a user wrote.

        Raises:
            InputError: If a value is invalid, also where transformers finds it.
        """
        try:
            return cls(**values)
        except InputError:
            raise
        except (TypeError, ValueError) as error:
            raise InputError(str(error)) from error

    @classmethod
    def of(cls, args: TrainingArguments) -> Self:
        """Return plain `transformers.TrainingArguments` as arguments of this class, with the values they hold.

        The fields that only this class has get their defaults, and so do those that the loss needs. Arguments of this
        class are returned unchanged.

        Raises:
            InputError: If this is something else, a value is out of range, or a field would have no effect.

        Example:
            >>> from transformers import TrainingArguments
            >>> PaintTrainingArguments.of(TrainingArguments(output_dir="run", max_steps=5)).learning_rate
            5e-05
        """
        if isinstance(args, cls):
            return args
        if not isinstance(args, TrainingArguments):
            raise InputError(
                "`args` must be training arguments, as in PaintTrainingArguments(output_dir='run'); got an object "
                f"of type {type(args).__name__}."
            )
        fresh = TrainingArguments(output_dir=args.output_dir, use_cpu=args.use_cpu)
        ours, theirs = defaults_of(cls), defaults_of(TrainingArguments)
        held = {f.name: getattr(args, f.name) for f in fields(TrainingArguments) if f.init}
        untouched = {name for name, value in held.items() if value == getattr(fresh, name)}
        dropped = {name for name in untouched if ours.get(name) == theirs.get(name)} - {"output_dir", "use_cpu"}
        dropped |= {name for name in NEEDED_BY_THE_LOSS if name in untouched}
        if args.max_steps > 0:
            dropped.add("num_train_epochs")  # not read
        return cls(**{name: value for name, value in held.items() if name not in dropped})

    def get_warmup_steps(self, num_training_steps: int) -> int:
        """Return the number of warm-up steps; a fraction leaves at least one step for the decay."""
        steps = int(super().get_warmup_steps(num_training_steps))
        return min(steps, num_training_steps - 1) if self.warmup_steps < 1 else steps

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults as plain values for a recipe, without the Hub token."""
        return {name: plain(value) for name, value in self._given.items()}

    @property
    def given_eval_batch_size(self) -> int | None:
        """The evaluation batch size per process, or None if it was left to the device."""
        return self._given.get("per_device_eval_batch_size")

    def with_changes(self, **values: object) -> Self:
        """Return a copy with some fields replaced; the copy is not validated again.

        Example:
            >>> PaintTrainingArguments(output_dir="run").with_changes(output_dir="run/step-1").output_dir
            'run/step-1'
        """
        changed = copy(self)
        for name, value in values.items():
            setattr(changed, name, value)
        changed._given = {name: value for name, value in {**self._given, **values}.items() if name != "hub_token"}
        return changed

    def make_accelerator(self) -> Accelerator:
        """Return an accelerator for evaluation on all processes.

        All accelerators in a process share one state, so a trainer created later fails if its precision differs.
        """
        loading = DataLoaderConfiguration(non_blocking=True)
        return Accelerator(cpu=self.use_cpu, mixed_precision=self.mixed_precision, dataloader_config=loading)
