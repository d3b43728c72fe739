"""Weight averaging during training: EMA (Polyak & Juditsky, 1992) and SWA (Izmailov et al., UAI 2018)."""

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
from hf_paint.models.devices import float64_device, to_float64


class WeightAveraging(TrainerCallback):
    """Base class for callbacks that average the weights during training.

    After each step, `average += rate * (theta - average)`; when training ends, the average is loaded into the model.
    Subclasses define the rate. It depends only on the step, so checkpoints need to store nothing but the average, and
    a resumed run gives bit-identical results. The average is kept in float64, because its change in one step is often
    too small for float32; it is on the model's device, or on the CPU if the device has no float64. Evaluations and
    checkpoints during training use the trained weights; checkpoints store the average in a separate file.
    """

    file_name: str

    def rate(self, step: int, max_steps: int) -> float:
        """Return the weight in [0, 1] given to the current model in the average; steps are counted from 1."""
        raise NotImplementedError

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start a new average, or load the one stored in the checkpoint."""
        if args.load_best_model_at_end:
            raise InputError(
                "Weight averaging replaces the weights when training ends, so `load_best_model_at_end` must be False."
            )
        self._average: dict[str, Tensor] = {}
        if state.global_step:
            path = Path(str(args.output_dir)) / f"{PREFIX_CHECKPOINT_DIR}-{state.global_step}" / self.file_name
            if not path.exists():
                raise InputError(f"{path} is missing. A run with weight averaging cannot resume without this file.")
            self._average = load_file(path, device=str(float64_device(args.device)))

    @torch.no_grad()
    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Update the average with the current weights."""
        model: nn.Module = kwargs["model"]
        rate = self.rate(state.global_step, state.max_steps)
        if not rate:
            return
        for name, parameter in model.named_parameters():
            theta = to_float64(parameter.detach())
            if rate == 1:
                self._average[name] = theta.clone()
            else:
                tau = subtract(name, self._average[name], theta)
                self._average[name] = add(self._average[name], tau.mul_(rate))

    def save(self, checkpoint: Path) -> None:
        """Save the average in a checkpoint folder. BaseTrainer calls this before it completes the checkpoint."""
        save_atomically(checkpoint / self.file_name, partial(save_file, self._average))

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Load the average, if any, into the model. Buffers are left unchanged."""
        model: nn.Module = kwargs["model"]
        dtypes = {name: parameter.dtype for name, parameter in model.named_parameters()}
        averages = {name: average.to(dtypes[name]) for name, average in self._average.items()}
        model.load_state_dict(averages, strict=False)


class EMACallback(WeightAveraging):
    """Exponential moving average: `average = decay * average + (1 - decay) * theta` after each step.

    The average is initialised with the weights after the first step. With `warmup`, the decay follows timm's schedule,
    `1 - (1 + (step - 1) / warmup_gamma) ** -warmup_power`, until it reaches `decay`.

    Args:
        decay: Decay in [0, 1). The average covers about `1 / (1 - decay)` steps.
        warmup: Increase the decay gradually from 0.
        warmup_gamma: Time scale of the warm-up, in steps.
        warmup_power: Exponent of the warm-up. With 2/3, the decay reaches 0.9 after 30 steps and 0.999 after 31,600.

    Raises:
        InputError: If `decay` is out of range.

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
        self.decay: float = decay
        self.warmup: bool = warmup
        self.warmup_gamma: float = warmup_gamma
        self.warmup_power: float = warmup_power

    def rate(self, step: int, max_steps: int) -> float:
        """Return 1 minus the decay. The decay is 0 in the first step."""
        if step == 1:
            return 1.0
        if not self.warmup:
            return 1 - self.decay
        growing = float((1 + (step - 1) / self.warmup_gamma) ** -self.warmup_power)
        return max(1 - self.decay, growing)


class SWACallback(WeightAveraging):
    """Stochastic weight averaging: average the weights at regular intervals during the last part of training.

    Averaging starts at step `start * max_steps`, rounded up, and continues with every `every`-th step after it. The
    learning rate schedule is left unchanged, whereas Izmailov et al. use a high or cyclical learning rate.

    Args:
        start: Fraction of training after which averaging starts, in [0, 1].
        every: Number of steps between averaged weights.

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
        self.start: float = start
        self.every: int = every

    def rate(self, step: int, max_steps: int) -> float:
        """Return 1 / n at the n-th averaged step and 0 at all other steps."""
        since = step - max(1, math.ceil(self.start * max_steps))
        return 0.0 if since < 0 or since % self.every else 1 / (since // self.every + 1)


@dataclass(frozen=True, kw_only=True)
class SWA(Method):
    """Stochastic weight averaging: theta_1 is the mean of the weights at regular intervals (`SWACallback`)."""

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
        """Return text for the model card that says which steps are averaged."""
        steps = f"every {self.every} steps, from {100 * self.start:g} % of training onwards"
        return f"`theta_1` is a stochastic weight average (SWA): the mean of the weights at {steps}."


@dataclass(frozen=True, kw_only=True)
class EMA(Method):
    """Exponential moving average: theta_1 is an average of the weights during training (`EMACallback`)."""

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
        """Return text for the model card that gives the decay."""
        warmup = " after a warm-up" if self.warmup else ""
        average = "the exponential moving average (EMA) of the weights during training"
        return f"`theta_1` is {average}, with decay {self.decay:g}{warmup}."
