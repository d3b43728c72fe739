"""Checks of training arguments that need neither a model nor a task."""

from collections.abc import Collection
from typing import TYPE_CHECKING, get_args

from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from hf_paint.data.joint_images import TaskSampling
from hf_paint.data.transforms import Augmentation, AugmentationDevice
from hf_paint.errors import InputError, did_you_mean
from hf_paint.training.regularization import weights_in_use


if TYPE_CHECKING:
    from hf_paint.training.training_args import PaintTrainingArguments

SAMPLING_STRATEGIES = ("random", "sequential")
"""Values of `train_sampling_strategy` that do not depend on the length of a text."""


def check_arguments(args: "PaintTrainingArguments", given: Collection[str]) -> None:
    """Check the fields of `args`; the names of those that do not have their default values are in `given`.

    Raises:
        InputError: If a value is unknown, does not fit another, or does not fit the machine.
    """
    _check_choices(args)
    _check_length(args)
    _check_head(args)
    _check_lora(args, given)
    _check_regularization(args)
    _check_machine(args)


def _check_choices(args: "PaintTrainingArguments") -> None:
    """Check the fields that take one of several names.

    Raises:
        InputError: If a name is unknown; the message suggests the closest one.
    """
    choices = {
        "task_sampling": get_args(TaskSampling),
        "augmentation": get_args(Augmentation),
        "augmentation_device": get_args(AugmentationDevice),
        "train_sampling_strategy": SAMPLING_STRATEGIES,
    }
    for key, names in choices.items():
        if (value := getattr(args, key)) not in names:
            raise InputError(f"{key} must be one of {', '.join(names)}, got '{value}'.{did_you_mean(value, names)}")


def _check_length(args: "PaintTrainingArguments") -> None:
    """Check the length of the training and its warm-up.

    Raises:
        InputError: If they do not fit together.
    """
    if args.max_steps == 0:
        raise InputError("max_steps must be at least 1, got 0. To evaluate without training, give `thetas`.")
    if 0 < (args.max_steps or 0) <= args.warmup_steps:
        raise InputError(
            f"warmup_steps ({args.warmup_steps:g}) must be below max_steps ({args.max_steps}), or the learning "
            "rate never reaches its peak. A value below 1 is a fraction of all steps: 0.1 is a tenth."
        )


def _check_head(args: "PaintTrainingArguments") -> None:
    """Check the arguments of a trained head.

    Raises:
        InputError: If they need `train_head`, or contradict each other.
    """
    head_keys = [name for name in ("freeze_tower", "head_steps", "head_learning_rate") if getattr(args, name)]
    if head_keys and not args.train_head:
        raise InputError(f"`{head_keys[0]}` requires `train_head: true`.")
    if args.freeze_tower and args.head_steps:
        raise InputError("With `freeze_tower`, all steps train only the head. Remove `head_steps`.")
    if args.freeze_tower and args.eval_strategy != "no":
        raise InputError("`freeze_tower` does not support evaluation during training. Set `eval_strategy: no`.")
    if args.head_learning_rate and not args.head_steps:
        raise InputError("`head_learning_rate` requires `head_steps`.")


def _check_lora(args: "PaintTrainingArguments", given: Collection[str]) -> None:
    """Check the arguments of an adapter.

    Args:
        args: Training arguments.
        given: Names of the fields that differ from their defaults.

    Raises:
        InputError: If they need `use_peft`, contradict each other, or are out of range.
    """
    lora_keys = [name for name in given if name.startswith("lora_") or name in ("use_rslora", "use_dora")]
    if lora_keys and not args.use_peft:
        raise InputError(f"`{lora_keys[0]}` requires `use_peft: true`.")
    if args.use_peft and args.train_head:
        raise InputError("`use_peft` trains only an adapter for the image tower. Remove `train_head`.")
    if args.use_peft and _is_reentrant(args):
        raise InputError(
            "With `use_reentrant: true`, adapters get no gradients, because the layers before them have none. "
            "Remove `gradient_checkpointing_kwargs`."
        )


def _is_reentrant(args: "PaintTrainingArguments") -> bool:
    keywords = args.gradient_checkpointing_kwargs
    return bool(args.gradient_checkpointing and isinstance(keywords, dict) and keywords.get("use_reentrant"))


def _check_regularization(args: "PaintTrainingArguments") -> None:
    """Check that the penalties can be computed for what is trained.

    Raises:
        InputError: If they cannot; the message says what to remove.
    """
    weights = weights_in_use(args.regularization)
    if args.use_peft and "l2_sp" in weights:
        raise InputError("`l2_sp` penalises changed weights, which an adapter leaves as they are. Use `ldifs`.")
    if weights and _is_reentrant(args):
        raise InputError(
            "With `use_reentrant: true`, the gradients of `regularization` would be incomplete. Remove "
            "`gradient_checkpointing_kwargs`."
        )


def _check_machine(args: "PaintTrainingArguments") -> None:
    """Check that this machine has what the arguments ask for: a GPU and experiment trackers.

    Raises:
        InputError: If something is missing; the message says what to install or to set instead.
    """
    if args.fp16 and args.device.type == "cpu":
        raise InputError("`fp16: true` needs a GPU. On a CPU, set `bf16: true` instead, or remove it.")
    known, installed = list(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    for name in args.report_to or ():
        if name not in known:
            hint = did_you_mean(name, known) or f" Choose from: {', '.join(known)}."
            raise InputError(f"`report_to` names the unknown tracker '{name}'.{hint}")
        if name not in installed and name != "flyte":  # which transformers does not look up
            raise InputError(
                f"`report_to: {name}` needs the package {name}, which is not installed. Install it (pip install "
                f"{name}), or remove `report_to`."
            )
