"""Averages of the weights during one training: EMA (Polyak & Juditsky, 1992), SWA (Izmailov et al., UAI 2018)."""

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR

from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.merging.base import Method
from hf_paint.merging.interpolation import add, subtract


class WeightAveraging(TrainerCallback):
    """`average += rate * (theta - average)` after each step; the model takes the average at the end of training.

    Subclasses define the rate. It depends only on the step, so a checkpoint stores only the average, and a resumed
    training ends with the same bits as an uninterrupted one. The average is float64 on the device of the model,
    because its change in one step is often below the resolution of float32. Evaluations and checkpoints during
    training use the trained weights; the average is saved next to them in its own file.
    """

    file_name: str

    def rate(self, step: int, max_steps: int) -> float:
        """Return the share in [0, 1] of the current weights in the average; steps count from 1."""
        raise NotImplementedError

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start a new average, or resume the one in the checkpoint."""
        if args.load_best_model_at_end:
            raise InputError(
                "Weight averaging replaces the weights at the end of training: remove `load_best_model_at_end`."
            )
        self._average: dict[str, Tensor] = {}
        if state.global_step:
            path = self._path(args, state)
            if not path.exists():
                raise InputError(f"{path} is missing: a run cannot resume from a checkpoint without its average.")
            self._average = load_file(path, device=str(args.device))

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Add the weights after this step to the average."""
        model: nn.Module = kwargs["model"]
        rate = self.rate(state.global_step, state.max_steps)
        if not rate:
            return
        for name, parameter in model.named_parameters():
            theta = parameter.detach().double()
            if rate == 1:
                self._average[name] = theta.clone()
            else:
                tau = subtract(name, self._average[name], theta)
                self._average[name] = add(self._average[name], tau.mul_(rate))

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        """Save the average in the folder of the checkpoint."""
        if args.should_save:
            save_atomically(self._path(args, state), partial(save_file, self._average))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Load the average, if there is one, into the model; buffers keep their values."""
        model: nn.Module = kwargs["model"]
        model.load_state_dict(self._average, strict=False)

    def _path(self, args: TrainingArguments, state: TrainerState) -> Path:
        return Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / self.file_name


class EMACallback(WeightAveraging):
    """Exponential moving average: `average = decay * average + (1 - decay) * theta` after each step.

    The average starts as the weights after the first step. With `warmup`, the decay grows as timm's does:
    `1 - (1 + (step - 1) / warmup_gamma) ** -warmup_power`, up to `decay`.

    Args:
        decay: In [0, 1); the average covers about `1 / (1 - decay)` steps.
        warmup: Let the decay grow from 0.
        warmup_gamma: The number of steps over which the decay grows.
        warmup_power: The exponent of the growth; with 2/3 the decay reaches 0.9 after 30 steps, 0.999 after 31,600.

    Raises:
        InputError: If the decay is out of range.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=3, warmup_steps=1, use_cpu=True)
        >>> options = {"train_task": task, "processing_class": processor, "callbacks": [EMACallback(decay=0.5)]}
        >>> PaintTrainer(model, args, **options).train().global_step
        3
    """

    file_name = "ema.safetensors"

    def __init__(
        self, decay: float = 0.999, *, warmup: bool = False, warmup_gamma: float = 1.0, warmup_power: float = 2 / 3
    ) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"decay must be at least 0 and below 1, got {decay}.")
        self.decay, self.warmup = decay, warmup
        self.warmup_gamma, self.warmup_power = warmup_gamma, warmup_power

    def rate(self, step: int, max_steps: int) -> float:
        """Return 1 minus the decay; the decay of the first step is 0."""
        if step == 1:
            return 1.0
        if not self.warmup:
            return 1 - self.decay
        growing = float((1 + (step - 1) / self.warmup_gamma) ** -self.warmup_power)
        return max(1 - self.decay, growing)


class SWACallback(WeightAveraging):
    """Stochastic weight averaging: the mean of the weights at regular steps in the last part of training.

    The first averaged step is the first one at or after `start * max_steps`, followed by every `every`-th step. The
    learning rate schedule does not change; Izmailov et al. average under a high or cyclical learning rate.

    Args:
        start: The share of training after which averaging starts, in [0, 1].
        every: The number of steps between averaged weights.

    Raises:
        InputError: If `start` or `every` is out of range.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=4, warmup_steps=1, use_cpu=True)
        >>> options = {"train_task": task, "processing_class": processor, "callbacks": [SWACallback(0.5, every=1)]}
        >>> PaintTrainer(model, args, **options).train().global_step
        4
    """

    file_name = "swa.safetensors"

    def __init__(self, start: float = 0.75, *, every: int = 50) -> None:
        if not 0 <= start <= 1 or every < 1:
            raise InputError(f"start must be in [0, 1] and every at least 1, got {start} and {every}.")
        self.start, self.every = start, every

    def rate(self, step: int, max_steps: int) -> float:
        """Return 1 / n at the n-th averaged step, and 0 at the others."""
        since = step - max(1, math.ceil(self.start * max_steps))
        return 0.0 if since < 0 or since % self.every else 1 / (since // self.every + 1)


@dataclass(frozen=True, kw_only=True)
class SWA(Method):
    """theta_1 is the mean of the weights at regular steps of the training (`SWACallback`)."""

    name: ClassVar[str] = "swa"
    end: ClassVar[str] = "SWA"
    spans: ClassVar[bool] = True
    start: float = 0.75
    every: int = 50

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback that averages the weights."""
        return [SWACallback(self.start, every=self.every)]

    def __post_init__(self) -> None:
        self.callbacks()  # its constructor checks the options

    def sentence(self) -> str:
        """Return the description, with the averaged steps."""
        steps = f"every {self.every} steps, from {100 * self.start:g} % of training onwards"
        return f"`theta_1` is a stochastic weight average (SWA): the mean of the weights at {steps}."


@dataclass(frozen=True, kw_only=True)
class EMA(Method):
    """theta_1 is the exponential moving average of the weights (`EMACallback`)."""

    name: ClassVar[str] = "ema"
    end: ClassVar[str] = "EMA"
    spans: ClassVar[bool] = True
    decay: float = 0.999
    warmup: bool = False

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callback that averages the weights."""
        return [EMACallback(self.decay, warmup=self.warmup)]

    def __post_init__(self) -> None:
        self.callbacks()  # its constructor checks the options

    def sentence(self) -> str:
        """Return the decay."""
        warmup = " after a warm-up" if self.warmup else ""
        average = "the exponential moving average (EMA) of the weights during training"
        return f"`theta_1` is {average}, with decay {self.decay:g}{warmup}."
