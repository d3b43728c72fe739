"""When a training reads each field of its arguments."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from hf_paint.errors import InputError
from hf_paint.training.optimization import optimizer_settings, schedule_settings
from hf_paint.training.readers import Reader, defaults_of, refuse_unread


if TYPE_CHECKING:
    from hf_paint.training.training_args import PaintTrainingArguments

Arguments: TypeAlias = "PaintTrainingArguments"
Reads: TypeAlias = Callable[[Arguments], bool]


def check_fields_are_read(
    args: "PaintTrainingArguments", given: Mapping[str, object], *, by_any_training: bool = False
) -> None:
    """Refuse a field that was given but that the training would not read.

    Args:
        args: All arguments.
        given: Fields with the values that differ from their defaults.
        by_any_training: Refuse only what no training reads, which needs no other arguments.

    Raises:
        InputError: If a field would have no effect.
    """
    refuse_unread(given, defaults_of(type(args)), NEVER_READ if by_any_training else READERS, args)


def _never(advice: str) -> Reader[Arguments]:
    return Reader(lambda args: False, f"{advice} Remove it.")


def _needs(setting: str, reads: Reads) -> Reader[Arguments]:
    return Reader(reads, f"It needs `{setting}`. Set that too, or remove it.")


def _builds(name: str, build: Callable[[Arguments], object], part: str) -> Reader[Arguments]:
    """Return a reader that builds a part of the trainer with and without a field and compares the two."""

    def reads(args: Arguments) -> bool:
        """Return whether the part is another one if the field has its default."""
        try:
            return build(args) != build(args.with_changes(**{name: defaults_of(type(args))[name]}))
        except InputError:  # the part needs the field
            return True

    return Reader(reads, f"What {part} chooses does not read it. Choose another, or remove it.")


def _checkpoints_activations(args: Arguments) -> bool:
    """Return whether activations are computed twice; transformers 5.10 calls it gradient checkpointing only."""
    return bool(getattr(args, "activation_checkpointing", args.gradient_checkpointing))


_EVALUATOR = _never("Tasks are evaluated by hf_paint's own evaluator, which has no such setting.")
_FULL_EVAL = _never("Evaluation during training runs in the precision of the training, which `bf16` sets.")
_LAUNCHER = _never("The launcher decides how weights are sharded: accelerate launch --config_file FILE.")
_LABELS = _never("The loss always gets the images and their labels.")
_LIGER = _never("There are no Liger kernels for image towers.")
_EVALUATES = _needs("eval_strategy", lambda args: args.eval_strategy != "no")
_TRACKIO = _needs("report_to: trackio", lambda args: "trackio" in (args.report_to or ()))
_PROJECT = _needs(
    "report_to: wandb` or `report_to: trackio", lambda args: bool({"wandb", "trackio"} & {*(args.report_to or ())})
)
_WORKERS = _needs("dataloader_num_workers", lambda args: bool(args.dataloader_num_workers))

NEVER_READ: Mapping[str, Reader[Arguments]] = {
    "average_tokens_across_devices": _never("The loss is always the mean over all images of a step."),
    "use_cache": _never("Only language models have a cache."),
    "include_num_input_tokens_seen": _never("Images have no tokens."),
    "length_column_name": _never("Images have no length to group them by."),
    "neftune_noise_alpha": _never("Only embeddings of texts get this noise."),
    "logging_nan_inf_filter": _never("A training stops when its loss is NaN or inf."),
    "local_rank": _never("The launcher sets it in the environment."),
    "warmup_ratio": _never("`warmup_steps` below 1 is a share of the steps."),  # only old versions have these two
    "logging_dir": _never("Logs are written into `output_dir`."),
    **dict.fromkeys(("bf16_full_eval", "fp16_full_eval"), _FULL_EVAL),
    **dict.fromkeys(("use_liger_kernel", "liger_kernel_config"), _LIGER),
    **dict.fromkeys(("prediction_loss_only", "eval_do_concat_batches", "eval_use_gather_object"), _EVALUATOR),
    **dict.fromkeys(("eval_accumulation_steps", "include_for_metrics", "batch_eval_metrics"), _EVALUATOR),
    **dict.fromkeys(("remove_unused_columns", "label_names"), _LABELS),
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed", "parallelism_config"), _LAUNCHER),
}
"""Fields that no training reads."""

READERS: Mapping[str, Reader[Arguments]] = {
    **NEVER_READ,
    **{
        name: _builds(name, optimizer_settings, "`optim`")
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon", "optim_args", "optim_target_modules")
    },
    **{
        name: _builds(name, schedule_settings, "`lr_scheduler_type`")
        for name in ("warmup_steps", "lr_scheduler_kwargs")
    },
    "ddp_timeout": Reader(lambda args: not args.use_cpu, "It is only read with GPUs. Remove it, or `use_cpu`."),
    "num_train_epochs": Reader(
        lambda args: (args.max_steps or 0) <= 0, "`max_steps` sets the length. Remove one of the two."
    ),
    "logging_steps": _needs("logging_strategy: steps", lambda args: args.logging_strategy in ("steps", "no")),
    "eval_steps": _needs("eval_strategy: steps", lambda args: args.eval_strategy == "steps"),
    **dict.fromkeys(("eval_delay", "metric_for_best_model"), _EVALUATES),
    "greater_is_better": _needs("metric_for_best_model", lambda args: args.metric_for_best_model is not None),
    "save_steps": _needs("save_strategy: steps", lambda args: args.save_strategy in ("steps", "no")),
    "run_name": _needs("report_to", lambda args: bool(args.report_to)),
    "project": _PROJECT,
    **dict.fromkeys(("trackio_space_id", "trackio_bucket_id", "trackio_static_space_id"), _TRACKIO),
    **dict.fromkeys(("dataloader_persistent_workers", "dataloader_prefetch_factor"), _WORKERS),
    **dict.fromkeys(("dataloader_multiprocessing_context", "dataloader_in_order"), _WORKERS),
    **dict.fromkeys(
        ("gradient_checkpointing_kwargs", "activation_checkpointing_kwargs"),
        _needs("activation_checkpointing", _checkpoints_activations),
    ),
    "augmentation_device": _needs("augmentation: paint", lambda args: args.augmentation == "paint"),
    "regularization": Reader(
        lambda args: not args.freeze_tower,
        "With `freeze_tower`, the image tower stays as it is. Remove one of the two.",
    ),
    "sampling_temperature": _needs("task_sampling: temperature", lambda args: args.task_sampling == "temperature"),
}
"""Field -> when a training reads it. A field that is not listed here is always read.

`save_strategy: no` and `logging_strategy: no` switch off everything about saving and logging, also its details.
"""
