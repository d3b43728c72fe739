"""A training whose loss includes the penalties of `regularization`."""

from contextlib import nullcontext
from typing import Any

from torch import Tensor, nn
from transformers.trainer_utils import TrainOutput

from hf_paint.data.transforms import PixelTransform
from hf_paint.training.base_trainer import BaseTrainer
from hf_paint.training.regularization import weights_in_use
from hf_paint.training.regularizer import Regularizer


class RegularizationMixin(BaseTrainer):
    """Add penalties to the loss, and log their parts of it beside it.

    The part of a micro-batch is its share of the images of the step, as for the loss, so that a step does not depend
    on how its images are spread. The sums of penalties stay on the device until something is logged.

    Attributes:
        regularizer: Penalties, with the model as it was before the first training; None if there are none.
        transform: Preprocessing of the images.
    """

    transform: PixelTransform
    regularizer: Regularizer | None = None
    _sums: dict[str, Tensor]
    _summed_from = 0

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train like `Trainer.train`."""
        weights = weights_in_use(self.args.regularization)
        if weights and self.regularizer is None:
            self.regularizer = Regularizer(self.model, weights)
        with nullcontext() if self.regularizer is None else self.regularizer.hooked():
            return super().train(*args, **kwargs)

    def _inner_training_loop(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; with `auto_find_batch_size`, every call after the first starts training over."""
        self._sums = {}
        return super()._inner_training_loop(*args, **kwargs)

    def loss_and_features(
        self, model: nn.Module, inputs: dict[str, Tensor], num_images: Tensor | int | None
    ) -> tuple[Tensor, Tensor]:
        """Return the contribution of a micro-batch to the loss of the step, with penalties in training."""
        if self.regularizer is None or not model.training:
            return super().loss_and_features(model, inputs, num_images)
        with self.regularizer.features.recording() as found:
            loss, features = super().loss_and_features(model, inputs, num_images)
        pixel_values = self.transform.normalize(inputs["pixel_values"])
        if not self._sums:
            self._summed_from = self.state.global_step
        for name, penalty in self.regularizer.penalties(found, pixel_values, self.accelerator.autocast()).items():
            part = self.share_of_step(penalty, inputs, num_images)
            self._sums[name] = self._sums.get(name, 0) + part.detach()
            loss = loss + part
        return loss, features

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Log values, with the mean penalties since the last time beside the mean loss."""
        if "loss" in logs and self.regularizer is not None:
            steps = self.state.global_step - self._summed_from
            for name, total in self._sums.items():
                logs[name] = float(self.accelerator.reduce(total, reduction="mean")) / steps
            self._sums = {}
        super().log(logs, start_time)
