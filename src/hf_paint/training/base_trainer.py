"""The optimization of the papers in a `transformers.Trainer`: schedule, weight decay, and the mean of a step."""

import logging
import math
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer, set_seed
from transformers.trainer_utils import TrainOutput, has_length

from hf_paint.errors import InputError
from hf_paint.training.training_args import PaintTrainingArguments


logger = logging.getLogger(__name__)


class PaperTrainer(Trainer):
    """What the training of an image tower and that of a head alone have in common.

    A step is the mean over its images, however many processes and micro-batches they are spread over and however the
    epoch ends: the weights that come out do not depend on that.
    """

    args: PaintTrainingArguments
    loss_is_scaled_for_ga = True
    _initial_weights: dict[str, Tensor] | None = None

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the parameters that weight decay applies to: all of them, as in the released code of PAINT."""
        if self.args.decay_all_parameters:
            return [name for name, _ in model.named_parameters()]
        return list(super().get_decay_parameter_names(model))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Make the schedule; `cosine` is the papers', which differs from transformers' by starting above zero."""
        warmup = self.args.get_warmup_steps(num_training_steps)
        if warmup >= num_training_steps:
            raise InputError(f"warmup_steps ({warmup}) must be below the {num_training_steps} steps of the training.")
        if self.args.lr_scheduler_type != "cosine":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            factor = partial(paint_learning_rate, num_warmup_steps=warmup, num_training_steps=num_training_steps)
            self.lr_scheduler = LambdaLR(cast(Optimizer, optimizer or self.optimizer), factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor]:
        """Return the micro-batches of a step, and how many images they have in all processes together.

        accelerate fills up the last batch of an epoch, so that each process gets a whole one: of that only the images
        that the epoch has left count. A process for which none is left keeps one, and its `num_images` is 0.
        """
        batches = list(islice(epoch_iterator, num_batches))
        for batch in batches:
            batch["num_images"] = len(batch["labels"])
        if batches and self.accelerator.gradient_state.end_of_dataloader:
            last = batches[-1]
            last["num_images"] = self._num_left(last["num_images"])
            kept = max(1, last["num_images"])
            batches[-1] = {key: value[:kept] if torch.is_tensor(value) else value for key, value in last.items()}
        count = torch.tensor(sum(batch["num_images"] for batch in batches), device=device)
        return batches, cast(Tensor, self.accelerator.reduce(count))

    def share_of_step(self, loss: Tensor, batch: dict[str, Any], num_images: Tensor | int | None) -> Tensor:
        """Return what the mean loss of a micro-batch adds to the mean over the images of the step.

        Args:
            loss: The mean loss of the micro-batch.
            batch: The micro-batch.
            num_images: How many images the step has in all processes together.
        """
        if num_images is None or "num_images" not in batch:  # a prediction, and no step
            return loss
        return loss.mul(batch["num_images"] * self.args.world_size / num_images)  # processes average their gradients

    def _num_left(self, batch_size: int) -> int:
        """Return how many images of the last batch of an epoch the process has for itself; they come first."""
        dataset, together = self.train_dataset, batch_size * self.args.world_size
        if self.args.world_size == 1 or self.args.dataloader_drop_last or not has_length(dataset):
            return batch_size
        left: int = len(dataset) % together or together
        before = batch_size * int(self.args.process_index)
        return min(max(left - before, 0), batch_size)

    def train(self, *args: Any, **options: Any) -> TrainOutput:
        """Train as `Trainer.train` does."""
        self._initial_weights = None
        return super().train(*args, **options)

    def _inner_training_loop(self, *args: Any, **options: Any) -> TrainOutput:
        """Train; `auto_find_batch_size` calls this again, and then the training starts over."""
        if self.args.auto_find_batch_size:
            self._start_over(*args)
        return super()._inner_training_loop(*args, **options)

    def _start_over(self, batch_size: int) -> None:
        model = cast(nn.Module, self.model)
        if self._initial_weights is None:
            self._initial_weights = {name: x.to("cpu", copy=True) for name, x in model.state_dict().items()}
            return
        logger.warning(f"Out of memory: the training starts over, with {batch_size} images per process.")
        model.load_state_dict(self._initial_weights)
        self.optimizer = None
        set_seed(self.args.seed)


def paint_learning_rate(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """Return the factor of the learning rate at a step of the papers' schedule.

    `(step + 1) / warmup` during warm-up, then half a cosine down to zero: `0.5 (1 + cos(pi (step - w) / (S - w)))`.
    """
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    remaining = max(1, num_training_steps - num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - num_warmup_steps) / remaining))
