"""Optimization for PAINT and WiSE-FT in a `transformers.Trainer`: schedule, weight decay and per-step loss."""

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import islice
from typing import Any

import torch
from accelerate.data_loader import DataLoaderShard
from accelerate.utils import TorchDynamoPlugin
from accelerate.utils.memory import clear_device_cache
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler
from torch.utils.data import DataLoader
from transformers import set_seed
from transformers.trainer_utils import TrainOutput, has_length

from hf_paint.data.prefetching import DeviceCopies
from hf_paint.errors import InputError
from hf_paint.models.compilation import compile_blocks, pays, undo_compilation
from hf_paint.models.linear_layers import undo_onednn
from hf_paint.models.losses import cross_entropy
from hf_paint.models.products import float32_products
from hf_paint.training.batch_size import images_of_run
from hf_paint.training.divergence import DivergenceMixin
from hf_paint.training.resuming import ResumingMixin
from hf_paint.training.training_args import PaintTrainingArguments


logger: logging.Logger = logging.getLogger(__name__)


class BaseTrainer(DivergenceMixin, ResumingMixin):
    """Optimization shared by `PaintTrainer` and `HeadTrainer`.

    The loss of a step is the mean over its images. The trained weights therefore do not depend on how images are
    spread over processes and micro-batches, or on the size of the last batch in an epoch.

    Subclasses implement `features`. They also override `mean_loss` and `logits` if the features are not logits.
    """

    args: PaintTrainingArguments
    model: nn.Module
    loss_is_scaled_for_ga: bool = True
    optimizer: Optimizer | None
    lr_scheduler: LambdaLR | None

    def __init__(self, model: nn.Module, args: PaintTrainingArguments, **options: Any) -> None:
        super().__init__(model, args, **options)
        self.model_accepts_loss_kwargs = True  # `compute_loss` divides by the number of images in the step
        self._initial_weights: dict[str, Tensor] | None = None

    def features(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the model output that the loss is computed from, one row per image."""
        raise NotImplementedError

    def mean_loss(self, features: Tensor, labels: Tensor) -> Tensor:
        """Return the mean `cross_entropy` of logits and labels, with `label_smoothing_factor` applied."""
        return cross_entropy(features, labels, label_smoothing=self.args.label_smoothing_factor)

    def logits(self, features: Tensor) -> Tensor:
        """Convert features to logits (batch, num_classes)."""
        return features

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the contribution of a micro-batch to the mean loss over the step, and its logits if requested."""
        loss, features = self.loss_and_features(model, inputs, num_items_in_batch)
        return (loss, {"logits": self.logits(features)}) if return_outputs else loss

    def loss_and_features(
        self, model: nn.Module, inputs: dict[str, Tensor], num_images: Tensor | int | None
    ) -> tuple[Tensor, Tensor]:
        """Return the contribution of a micro-batch to the mean loss over the step, and its features."""
        features = self.features(model, inputs)
        return self.share_of_step(self.mean_loss(features, inputs["labels"]), inputs, num_images), features

    def share_of_step(self, loss: Tensor, batch: dict[str, Tensor], num_images: Tensor | int | None) -> Tensor:
        """Return the contribution of a micro-batch to the mean loss over the images of the step.

        Args:
            loss: Mean loss of the micro-batch.
            batch: Micro-batch.
            num_images: Number of images in the step over all processes; None outside training.
        """
        if num_images is None or "num_images" not in batch:
            return loss
        return loss.mul(batch["num_images"] * self.args.world_size / num_images)  # processes average their gradients

    def get_batch_samples(
        self, epoch_iterator: Iterator[dict[str, Any]], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Any]], Tensor | int]:
        """Return the micro-batches of a step, and the number of images in the step over all processes.

        accelerate pads the last batch of an epoch so that each process gets a full batch. This removes the padding. A
        process that has only padding keeps one image, and its `num_images` is 0.
        """
        batches = [dict(batch) for batch in islice(epoch_iterator, num_batches)]
        for batch in batches:
            batch["num_images"] = len(batch["labels"])
        if batches and self.accelerator.gradient_state.end_of_dataloader:
            last = batches[-1]
            last["num_images"] = self._num_left(last["num_images"])
            size = max(1, last["num_images"])
            batches[-1] = {key: value[:size] if torch.is_tensor(value) else value for key, value in last.items()}
        batches = [self.on_device(batch) for batch in batches]
        count = sum(batch["num_images"] for batch in batches)
        if self.args.world_size == 1:
            return batches, count
        total: Tensor = self.accelerator.reduce(
            torch.full((), count, device=device)
        )  # filled there: no copy to wait for
        return batches, total

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the dataloader of `Trainer`, whose batches stay on the CPU if `on_device` copies them to a GPU."""
        dataloader = super().get_train_dataloader()
        if self.copies.stream is not None and isinstance(dataloader, DataLoaderShard):
            dataloader.device = None
        return dataloader

    @cached_property
    def copies(self) -> DeviceCopies:
        """Copies batches to the training device."""
        return DeviceCopies(self.args.device, pin=self.args.dataloader_pin_memory)

    def on_device(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a micro-batch on the training device. A GPU copies it while it computes the step before."""
        return self.copies.finish(self.copies.start(batch))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Return what `Trainer` returns, which walks through the whole model at every step to count its parameters."""
        values = inputs.get(self._main_input)
        return self._operations_per_value * values.numel() if torch.is_tensor(values) else 0

    @property
    def _main_input(self) -> str:
        return str(getattr(self.model, "main_input_name", "input_ids"))

    @cached_property
    def _operations_per_value(self) -> int:
        operations: int = super().floating_point_ops({self._main_input: torch.empty(1)})
        return operations

    def _num_left(self, batch_size: int) -> int:
        """Return how many images in the last batch of an epoch are not padding; they come first in the batch."""
        dataset, together = self.train_dataset, batch_size * self.args.world_size
        if self.args.world_size == 1 or self.args.dataloader_drop_last or not has_length(dataset):
            return batch_size
        left: int = len(dataset) % together or together
        before = batch_size * int(self.args.process_index)
        return min(max(left - before, 0), batch_size)

    def get_decay_parameter_names(self, model: nn.Module) -> list[str]:
        """Return the parameters that get weight decay: by default all, as in the code released with PAINT."""
        if self.args.decay_all_parameters:
            return [name for name, _ in model.named_parameters()]
        return list(super().get_decay_parameter_names(model))

    def create_scheduler(self, num_training_steps: int, optimizer: Optimizer | None = None) -> LRScheduler:
        """Create the schedule; `cosine` follows the papers and starts above zero, unlike the one in transformers."""
        warmup = self.args.get_warmup_steps(num_training_steps)
        if warmup >= num_training_steps:
            raise InputError(f"warmup_steps ({warmup}) must be below the number of steps ({num_training_steps}).")
        if self.args.lr_scheduler_type != "cosine":
            return super().create_scheduler(num_training_steps, optimizer)
        if self.lr_scheduler is None:
            factor = partial(paint_learning_rate, num_warmup_steps=warmup, num_training_steps=num_training_steps)
            self.lr_scheduler = LambdaLR(optimizer or self.create_optimizer(), factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def train(self, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train like `Trainer.train`."""
        self._initial_weights = None
        return super().train(*args, **kwargs)

    def _build_accelerator_args(self, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of the accelerator, which is not to compile: `_inner_training_loop` does."""
        return super()._build_accelerator_args(**kwargs) | {"dynamo_plugin": TorchDynamoPlugin(backend="no")}

    def _inner_training_loop(self, batch_size: int | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train; with `auto_find_batch_size`, every call after the first starts training over."""
        size = batch_size or self.args.train_batch_size
        if self.args.auto_find_batch_size:
            self._start_over(size)
        with self._compiled(size), float32_products(tf32=bool(self.args.tf32)):
            return super()._inner_training_loop(batch_size, *args, **kwargs)

    @contextmanager
    def _compiled(self, batch_size: int) -> Iterator[None]:
        """Compile the model inside the block if the arguments say so, or if they leave it open and it pays."""
        args, wanted, dataset = self.args, self.args.torch_compile, self.train_dataset
        if wanted is None:
            num_images = images_of_run(args, len(dataset) if has_length(dataset) else 0) / args.world_size
            wanted = pays(self.model, args.device, num_images, backward=True)
        if wanted:
            backend, mode = args.torch_compile_backend or "inductor", args.torch_compile_mode
            compile_blocks(self.model, size=batch_size, backward=True, backend=backend, mode=mode)
        try:
            yield
        finally:
            undo_compilation(self.model)
            undo_onednn(self.model)  # which a callback may have applied

    def _start_over(self, batch_size: int) -> None:
        """Save the initial weights on the first call; restore them and the seed on later calls."""
        if self._initial_weights is None:
            self._initial_weights = {name: x.to("cpu", copy=True) for name, x in self.model.state_dict().items()}
            return
        logger.warning(f"Out of memory. Training starts over with a batch size of {batch_size} per process.")
        self.model.load_state_dict(self._initial_weights)
        self.model.zero_grad()
        self.optimizer = None
        # only now is nothing left of the failed attempt; its memory, in pieces, would make this one fail too
        clear_device_cache(garbage_collection=True)
        set_seed(self.args.seed)


def paint_learning_rate(step: int, *, num_warmup_steps: int, num_training_steps: int) -> float:
    """Return the learning rate factor at a step of the papers' schedule.

    The factor is `(step + 1) / warmup` during warm-up, then half a cosine down to zero:
    `0.5 (1 + cos(pi (step - w) / (S - w)))`.
    """
    if step < num_warmup_steps:
        return (step + 1) / num_warmup_steps
    remaining = max(1, num_training_steps - num_warmup_steps)
    return 0.5 * (1 + math.cos(math.pi * (step - num_warmup_steps) / remaining))
