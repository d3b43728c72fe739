"""Training arguments: `transformers.TrainingArguments` with PAINT defaults (Section 3 and the released code)."""

from copy import copy
from dataclasses import MISSING, Field, dataclass, field, fields
from enum import Enum
from typing import Any, Literal, Self, get_args

from accelerate import Accelerator, DataLoaderConfiguration
from transformers import TrainingArguments

from hf_paint.data.joint_images import TaskSampling
from hf_paint.errors import InputError, did_you_mean


PAINT_MAX_STEPS = 2000


@dataclass
class PaintTrainingArguments(TrainingArguments):
    """`transformers.TrainingArguments` with PAINT defaults and extra fields for heads, adapters and joint training.

    The defaults follow the papers: AdamW with a learning rate of 1e-5 and weight decay 0.1 on every parameter, 2000
    steps of 128 images, 200 of them warm-up, a cosine schedule, and gradients clipped to norm 1. To set the training
    length in epochs, pass `num_train_epochs` without `max_steps`.

    Raises:
        InputError: If a value is out of range, or arguments are incompatible.

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
        default=200, metadata={"help": "Number of linear warm-up steps; a value below 1 is a fraction of all steps."}
    )
    per_device_train_batch_size: int = field(default=128, metadata={"help": "Training batch size per process."})
    per_device_eval_batch_size: int = field(default=128, metadata={"help": "Evaluation batch size per process."})
    lr_scheduler_type: str = field(
        default="cosine",
        metadata={"help": "`cosine` is the papers' schedule; any other name is a transformers schedule."},
    )
    augmentation: Literal["paint", "none"] = field(
        default="paint",
        metadata={"help": "`paint` (random crops of at least nine tenths of the image, without flips) or `none`."},
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
    task_sampling: TaskSampling = field(
        default="proportional",
        metadata={
            "help": "How to sample from several tasks: `proportional` to their number of images, `uniform` or by "
            "`temperature`."
        },
    )
    sampling_temperature: float = field(
        default=2.0,
        metadata={"help": "With task_sampling `temperature`: n images have weight n ** (1 / sampling_temperature)."},
    )
    logging_nan_inf_filter: bool = field(
        default=False,
        metadata={"help": "Leave losses that are not finite out of the log, which makes every step wait for the GPU."},
    )
    tf32: bool | None = field(
        default=False,
        metadata={"help": "Round float32 inputs of products to TF32 on GPUs, which is faster and less exact."},
    )
    remove_unused_columns: bool = field(default=False, metadata={"help": "Keep false; the loss needs the labels."})
    label_names: list[str] | None = field(
        default_factory=lambda: ["labels"], metadata={"help": "Keep the default; the loss needs the labels."}
    )
    ddp_find_unused_parameters: bool | None = field(
        default=False, metadata={"help": "False by default, because every image tower parameter gets a gradient."}
    )

    def __post_init__(self) -> None:
        self._given = {f.name: getattr(self, f.name) for f in fields(self) if f.init and not _is_default(self, f)}
        self._given.pop("hub_token", None)  # a secret does not belong in a recipe
        if self.max_steps is None:
            self.max_steps = PAINT_MAX_STEPS if self.num_train_epochs is None else -1
        if self.num_train_epochs is None:
            self.num_train_epochs = 3.0
        if self.accelerator_config is None and self.dataloader_pin_memory:
            self.accelerator_config = {
                "non_blocking": True
            }  # copy a batch to the GPU while the one before is computed
        super().__post_init__()  # type: ignore[no-untyped-call]
        self.deepspeed_plugin = None  # use the plugin that accelerate creates for all accelerators in a process
        self._n_gpu = min(self._n_gpu, 1)  # one process, one GPU: torch's DataParallel would change the batch size
        self._check_numbers()
        self._check_head()
        self._check_lora()

    def _check_numbers(self) -> None:
        if 0 < (self.max_steps or 0) <= self.warmup_steps:
            raise InputError(
                f"warmup_steps ({self.warmup_steps:g}) must be below max_steps ({self.max_steps}), or the learning "
                "rate never reaches its peak. A value below 1 is a fraction of all steps."
            )
        rules = get_args(TaskSampling)
        if self.task_sampling not in rules:
            hint = did_you_mean(self.task_sampling, rules)
            raise InputError(f"task_sampling must be one of {', '.join(rules)}, got '{self.task_sampling}'.{hint}")
        if not self.sampling_temperature > 0:
            raise InputError(f"sampling_temperature must be above 0, got {self.sampling_temperature:g}.")

    def _check_head(self) -> None:
        head_keys = [name for name in ("freeze_tower", "head_steps", "head_learning_rate") if getattr(self, name)]
        if head_keys and not self.train_head:
            raise InputError(f"`{head_keys[0]}` requires `train_head: true`.")
        if self.freeze_tower and self.head_steps:
            raise InputError("With `freeze_tower`, all steps train only the head. Remove `head_steps`.")
        if self.freeze_tower and self.eval_strategy != "no":
            raise InputError("`freeze_tower` does not support evaluation during training. Set `eval_strategy: no`.")
        if self.head_learning_rate and not self.head_steps:
            raise InputError("`head_learning_rate` requires `head_steps`.")

    def _check_lora(self) -> None:
        lora_keys = [name for name in self._given if name.startswith("lora_") or name in ("use_rslora", "use_dora")]
        if lora_keys and not self.use_peft:
            raise InputError(f"`{lora_keys[0]}` requires `use_peft: true`.")
        if self.use_peft and self.train_head:
            raise InputError("`use_peft` trains only an adapter for the image tower. Remove `train_head`.")
        checkpointing = self.gradient_checkpointing_kwargs
        reentrant = isinstance(checkpointing, dict) and checkpointing.get("use_reentrant")
        if self.use_peft and self.gradient_checkpointing and reentrant:
            raise InputError(
                "With `use_reentrant: true`, adapters get no gradients, because the layers before them have none. "
                "Remove `gradient_checkpointing_kwargs`."
            )
        if self.lora_r < 1:
            raise InputError(f"lora_r must be at least 1, got {self.lora_r}.")

    def given(self) -> dict[str, Any]:
        """Return the fields that differ from their defaults as plain values for a recipe, without the Hub token."""
        return {name: _plain(value) for name, value in self._given.items()}

    def with_changes(self, **values: object) -> Self:
        """Return a copy with some fields replaced; the copy is not validated again.

        Example:
            >>> PaintTrainingArguments(output_dir="run").with_changes(output_dir="run/step-1").output_dir
            'run/step-1'
        """
        changed = copy(self)
        for name, value in values.items():
            setattr(changed, name, value)
        changed._given = self._given | values
        return changed

    def make_accelerator(self) -> Accelerator:
        """Return an accelerator for evaluation on all processes.

        All accelerators in a process share one state, so a trainer created later fails if its precision differs.
        """
        loading = DataLoaderConfiguration(non_blocking=True)
        return Accelerator(cpu=self.use_cpu, mixed_precision=self.mixed_precision, dataloader_config=loading)


def _plain(value: object) -> object:
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, (bool, int, float, str, list, dict)):
        return value
    return str(value)


def _is_default(args: PaintTrainingArguments, f: Field[object]) -> bool:
    """Return whether a field has its default, which the command line parser may spell differently if it is empty."""
    default = f.default_factory() if f.default_factory is not MISSING else f.default
    unset = {"": None, "no": False}
    value = getattr(args, f.name)
    return bool(value == default or unset.get(str(default), default) == value)
