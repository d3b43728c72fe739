"""The optimizer and the schedule that training arguments choose, built without a model to check their settings."""

from functools import partial
from typing import TYPE_CHECKING

import torch
from torch.optim import SGD
from transformers import SchedulerType, Trainer, get_scheduler
from transformers.training_args import OptimizerNames

from hf_paint.errors import InputError, one_line


if TYPE_CHECKING:
    from hf_paint.training.training_args import PaintTrainingArguments


def optimizer_settings(args: "PaintTrainingArguments") -> object:
    """Return the class and the settings of the optimizer; None if they depend on the model.

    Raises:
        InputError: If the optimizer is not installed, or its settings are invalid.
    """
    try:
        return Trainer.get_optimizer_cls_and_kwargs(args)
    except (ImportError, RuntimeError) as error:
        raise InputError(
            f"`optim: {OptimizerNames(args.optim).value}` cannot be used: {one_line(error)} Or remove `optim`."
        ) from error
    except (TypeError, ValueError) as error:
        if "model" in str(error):
            return None
        raise InputError(f"`optim: {OptimizerNames(args.optim).value}` cannot be used: {one_line(error)}") from error


def schedule_settings(args: "PaintTrainingArguments") -> object:
    """Return the settings of the learning rate schedule.

    Raises:
        InputError: If `lr_scheduler_kwargs` do not fit the schedule.
    """
    if args.lr_scheduler_type == "cosine":  # the papers' schedule, which has no other settings
        return args.warmup_steps
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=args.learning_rate)
    options = args.lr_scheduler_kwargs
    try:
        schedule = get_scheduler(
            args.lr_scheduler_type, optimizer, 0, 1, options if isinstance(options, dict) else None
        )
    except (TypeError, ValueError) as error:
        raise InputError(
            f"`lr_scheduler_type: {SchedulerType(args.lr_scheduler_type).value}` does not fit `lr_scheduler_kwargs: "
            f"{options}`: {one_line(error)}"
        ) from error
    factors = [factor.keywords for factor in getattr(schedule, "lr_lambdas", []) if isinstance(factor, partial)]
    if not factors:
        return {key: value for key, value in schedule.state_dict().items() if key != "lr_lambdas"}
    return factors, args.warmup_steps if "num_warmup_steps" in factors[0] else None
