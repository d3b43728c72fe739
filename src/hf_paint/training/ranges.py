"""The numbers that each field of the training arguments takes."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import TYPE_CHECKING

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from hf_paint.training.training_args import PaintTrainingArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Numbers that a field takes. NaN is never one of them, and inf only if `most` is None.

    Attributes:
        least: The lowest number.
        most: The highest number; None if there is none.
        below: All numbers are below this one.
        above: Whether `least` itself is left out.
        whole: Whether all are whole numbers.
        also: A number with a meaning of its own.
    """

    least: float = 0
    most: float | None = None
    below: float = math.inf
    above: bool = False
    whole: bool = False
    also: float | None = None

    def __contains__(self, value: float) -> bool:
        reaches = value > self.least if self.above else value >= self.least
        ends = value < self.below if self.most is None else value <= self.most
        return value == self.also or (reaches and ends)

    def __str__(self) -> str:
        least = f"{'above' if self.above else 'at least'} {self.least:g}"
        if self.most is not None and self.most < math.inf:
            return f"{least} and at most {self.most:g}"
        return f"{least} and below {self.below:g}" if self.below < math.inf else least


COUNT = Range(least=1, whole=True)
POSITIVE = Range(above=True)
NOT_NEGATIVE = Range()
SEED = Range(most=2**32 - 1, whole=True)
"""NumPy takes no other seeds."""
RANGES = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps"), COUNT
    ),
    **dict.fromkeys(("save_total_limit", "torch_empty_cache_steps", "dataloader_prefetch_factor", "lora_r"), COUNT),
    **dict.fromkeys(("num_train_epochs", "sampling_temperature", "lora_alpha"), POSITIVE),
    **dict.fromkeys(("ddp_bucket_cap_mb", "ddp_timeout"), POSITIVE),
    **dict.fromkeys(("learning_rate", "head_learning_rate", "weight_decay", "adam_epsilon"), NOT_NEGATIVE),
    **dict.fromkeys(("warmup_steps", "logging_steps", "eval_steps", "save_steps", "eval_delay"), NOT_NEGATIVE),
    **dict.fromkeys(("adam_beta1", "adam_beta2", "lora_dropout"), Range(below=1)),
    "replay_share": Range(above=True, below=1),
    **dict.fromkeys(("head_steps", "dataloader_num_workers"), Range(whole=True)),
    **dict.fromkeys(("seed", "data_seed"), SEED),
    "max_steps": Range(whole=True, also=-1),  # -1 leaves the length to `num_train_epochs`
    "max_grad_norm": Range(most=math.inf),
    "label_smoothing_factor": Range(most=1),
}
"""Field -> its numbers, for all fields that take numbers and that a training reads."""


def check_ranges(args: "PaintTrainingArguments") -> None:
    """Check every number that is given.

    Raises:
        InputError: If one is out of its range.
    """
    for key, numbers in RANGES.items():
        value = getattr(args, key)
        if value is None:
            continue
        if value not in numbers:
            raise InputError(f"{key} must be {numbers}, got {value:g}.")
        if numbers.whole and not isinstance(value, Integral):
            raise InputError(f"{key} must be a whole number, got {value!r}.")
