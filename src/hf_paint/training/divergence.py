"""Trainings that diverge: stopped at the step whose loss is NaN or inf, before weights like that are saved."""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer
from transformers.trainer_utils import TrainOutput

from hf_paint.errors import JobError
from hf_paint.weights.finite import is_finite


class DivergenceMixin(Trainer):
    """Stop a training that has diverged.

    The first step with such a loss is noted on the device, without waiting for it, and read when something is logged,
    evaluated or saved. On a CPU, it is read after every step. A half-precision training (`fp16`) repeats steps whose
    gradients overflow, so that only its weights are checked.
    """

    model: nn.Module
    _diverged_at: Tensor | None = None

    def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
        """Return the loss of a micro-batch after its backward pass, and note whether it is finite."""
        loss: Tensor = super().training_step(*args, **kwargs)
        if not self.args.fp16:
            step = torch.full_like(loss, self.state.global_step + 1, dtype=torch.int64)
            seen = torch.zeros_like(step) if self._diverged_at is None else self._diverged_at
            self._diverged_at = torch.where((seen == 0) & ~loss.isfinite(), step, seen)
        return loss

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train like `Trainer.train`.

        Raises:
            JobError: If the loss or a weight is NaN or inf.
        """
        self._diverged_at = None
        output = super().train(*args, **kwargs)
        self._check_weights()
        return output

    def _maybe_log_save_evaluate(self, *args: Any, **kwargs: Any) -> None:
        """Log, evaluate and save what is finite."""
        control = self.control
        if control.should_log or control.should_evaluate or control.should_save or self.args.device.type == "cpu":
            self._check_loss()
        if control.should_evaluate or control.should_save:
            self._check_weights()
        super()._maybe_log_save_evaluate(*args, **kwargs)

    def _check_loss(self) -> None:
        step = 0 if self._diverged_at is None else int(self._diverged_at)
        if step:
            raise self._divergence(f"the loss of step {step} is NaN or inf")

    def _check_weights(self) -> None:
        self._check_loss()
        name = first_not_finite(self.model)
        if name is not None:
            raise self._divergence(f"after step {self.state.global_step}, '{name}' holds NaN or inf")

    def _divergence(self, what: str) -> JobError:
        precision = ", or with `bf16: true` instead of `fp16`" if self.args.fp16 else ""
        return JobError(
            f"The training diverged: {what}. No theta_1 is saved. Train with a `learning_rate` below "
            f"{self.args.learning_rate:g}{precision}, in another output_dir."
        )


def first_not_finite(model: nn.Module) -> str | None:
    """Return the name of the first parameter with NaN or inf, of this process's share if weights are sharded."""
    for name, parameter in model.named_parameters():
        local = getattr(parameter, "to_local", None)
        if not is_finite(parameter if local is None else local()):
            return name
    return None
