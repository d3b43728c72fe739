"""The optimization of the papers in a `transformers.Trainer`: the schedule, and weight decay of every parameter."""

from functools import partial
from typing import cast

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from transformers import Trainer

from hf_paint.errors import InputError
from hf_paint.schedule import paint_learning_rate
from hf_paint.training_args import PaintTrainingArguments


class PaperTrainer(Trainer):
    """What the training of an image tower and that of a head alone have in common."""

    args: PaintTrainingArguments
    loss_is_scaled_for_ga = False

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
