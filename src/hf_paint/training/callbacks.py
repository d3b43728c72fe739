"""Callbacks as users pass them to a training."""

from collections.abc import Sequence
from typing import TypeAlias

from transformers import EarlyStoppingCallback, TrainerCallback

from hf_paint.errors import InputError
from hf_paint.training.training_args import BEST_METRIC, PaintTrainingArguments


CallbackLike: TypeAlias = TrainerCallback | type[TrainerCallback]
"""A callback, or its class, of which each training makes its own, as in `transformers.Trainer`."""


def made(callbacks: Sequence[CallbackLike]) -> list[TrainerCallback]:
    """Return the callbacks, with a new one of each class.

    Raises:
        InputError: If one is not a callback.
    """
    check_callbacks(callbacks)
    return [callback() if isinstance(callback, type) else callback for callback in callbacks]


def with_metric(args: PaintTrainingArguments, callbacks: Sequence[TrainerCallback]) -> PaintTrainingArguments:
    """Return the arguments with the metric that early stopping watches, if it is used and none was given.

    Raises:
        InputError: If the training is to be stopped early but does not evaluate.
    """
    if not any(isinstance(callback, EarlyStoppingCallback) for callback in callbacks):
        return args
    if args.eval_strategy == "no":
        raise InputError(
            "`EarlyStoppingCallback` compares evaluations, and this training has none. Set `eval_strategy`, or remove "
            "the callback. Training a head alone (`freeze_tower`, `head_steps`) is never evaluated."
        )
    if args.metric_for_best_model is not None:
        return args
    return args.with_changes(metric_for_best_model=BEST_METRIC, greater_is_better=True)


def check_callbacks(callbacks: Sequence[CallbackLike]) -> None:
    """Check that these are callbacks of a `Trainer`.

    Raises:
        InputError: If one is something else, like a function, or they are not in a list.
    """
    if isinstance(callbacks, (TrainerCallback, type)) or not isinstance(callbacks, Sequence):
        raise InputError(f"`callbacks` must be a list of callbacks, got {callbacks!r}.")
    for callback in callbacks:
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, TrainerCallback):
            raise InputError(
                f"A callback must be a `transformers.TrainerCallback` or a subclass of it, got {callback!r}."
            )
