"""Run image towers on the images of tasks."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from hf_paint.data.images import Example, collate
from hf_paint.evaluation.predictions import Predictions, outputs, predictions_from_outputs
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.evaluation.progress import EvaluationProgress
from hf_paint.models.classifier import ImageClassifier
from hf_paint.models.towers import copy_with
from hf_paint.results.alphas import Alpha
from hf_paint.results.records import Result
from hf_paint.results.run_folder import correct_file


Precision = Literal["fp32", "bf16"]
Batches: TypeAlias = Iterable[dict[str, Tensor]]
CPU_ACTIVATION_BYTES = 24 * 2**20
"""Maximum size of the largest activation on a CPU; larger batches are split into groups.

glibc maps blocks above 32 MiB anew at every allocation, and for a ViT-B/32 the resulting page faults take a quarter of
the run time.
"""
CONVOLUTION_EXPANSION = 24
"""Size of the largest activation in a convolutional tower, relative to the input pixels (ALIGN's EfficientNet-B7)."""


class Evaluator:
    """Runs image towers on prepared tasks. There is one dataloader per (task, split), reused for every alpha.

    Args:
        accelerator: Accelerator that distributes the batches over the processes and gathers the predictions.
        batch_size: Number of images per process and forward pass. On a CPU, batches are split if the activations would
            be too large.
        precision: Precision of the forward pass.
        compile: Compile the towers returned by `carrier`. This takes tens of seconds once and pays off in long sweeps.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        batch_size: int = 128,
        precision: Precision = "fp32",
        compile: bool = False,
    ) -> None:
        self.accelerator = accelerator
        self.batch_size = batch_size
        self.precision: Precision = precision
        self.compile = compile
        self._dataloaders: dict[int, Batches] = {}
        self.progress = EvaluationProgress(accelerator)

    def with_precision(self, precision: Precision) -> "Evaluator":
        """Return an evaluator with the same options but a different precision."""
        return Evaluator(
            self.accelerator,
            batch_size=self.batch_size,
            precision=precision,
            compile=self.compile,
        )

    def carrier(self, tower: nn.Module) -> nn.Module:
        """Return a copy of an image tower in the evaluation dtype. Its weights can be overwritten."""
        device, dtype = self.accelerator.device, torch.bfloat16 if self.precision == "bf16" else torch.float32
        parameters = tower.named_parameters()  # converted one by one, as a full float32 copy may not fit
        copies = {name: x.detach().to(device, dtype, copy=True) for name, x in parameters}
        carrier = copy_with(tower, copies).to(device, dtype).eval().requires_grad_(False)
        if isinstance(carrier, ImageClassifier):
            carrier.head.float()  # like zero-shot heads, whatever the dtype of the tower
        if self.compile:
            carrier.compile()  # the weights are inputs, so overwriting them does not trigger recompilation
        return carrier

    def predict(
        self, tower: nn.Module, task: PreparedTask, split: str, *, indices: NDArray[np.int64] | None = None
    ) -> Predictions:
        """Return an image tower's predictions on a split, in the order of its images and the same on all processes.

        Args:
            tower: Image tower, on the accelerator's device.
            task: Task to evaluate.
            split: Split to evaluate.
            indices: Indices of the images to evaluate, shape (num_indices,). Defaults to all images.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        head = task.head_of(tower).to(self.accelerator.device)  # outside inference mode: it may be used in training
        columns = self._gather(
            tower, task, split, lambda embeds, labels: outputs(*head.compare(embeds, labels)), indices
        )
        written = task.images[split].written
        if written is not None and indices is not None:
            written = written[indices]
        predictions = predictions_from_outputs(columns, written)
        if not np.isfinite(predictions.loss).all():
            raise FloatingPointError(
                f"The loss on {task.task.name} is not finite: training has diverged. Lower the learning rate."
            )
        return predictions

    def logits(
        self, tower: nn.Module, task: PreparedTask, split: str, *, indices: NDArray[np.int64] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (num_images, num_columns) and labels in order, the same on all processes.

        Labels are (num_images,), or (num_images, max_classes) for a multi-label task.

        Args:
            tower: Image tower, on the accelerator's device.
            task: Task to evaluate.
            split: Split to evaluate.
            indices: Indices of the images to evaluate, shape (num_indices,). Defaults to all images.
        """
        head = task.head_of(tower).to(self.accelerator.device)

        def compare(embeds: Tensor, labels: Tensor) -> dict[str, Tensor]:
            logits, targets = head.compare(embeds, labels)
            return {"logits": logits, "labels": targets}

        columns = self._gather(tower, task, split, compare, indices)
        return columns["logits"], columns["labels"]

    def embed(self, tower: nn.Module, task: PreparedTask, split: str) -> tuple[Tensor, Tensor]:
        """Return image embeddings (num_images, embed_dim) and labels, as in `logits`, for a split, on the CPU."""
        columns = self._gather(tower, task, split, lambda embeds, labels: {"embeds": embeds, "labels": labels})
        # copied outside inference mode, so that a head can be trained on them
        return columns["embeds"].clone(), columns["labels"].clone()

    def pending(self, task: PreparedTask, split: str, *, alpha: Alpha, weights: str, exact: bool = True) -> Result:
        """Return the record of an evaluation without scores, which is used to look it up before running the model."""
        images = task.images[split]
        return Result(
            alpha=alpha,
            task=task.task.name,
            role=task.role,
            split=split,
            correct=0,
            total=0,
            weights=weights,
            head=task.head_fingerprint,
            data=images.fingerprint,
            rows_fingerprint=images.rows,
            precision=self.precision,
            exact=exact,
            drawn_from=images.drawn_from,
            correct_file=correct_file(
                task.task.name,
                split,
                alpha,
                weights=weights,
                exact=exact,
                sample=None if images.drawn_from is None else images.fingerprint,
            ),
        )

    def _gather(
        self,
        tower: nn.Module,
        task: PreparedTask,
        split: str,
        function: Callable[[Tensor, Tensor], dict[str, Tensor]],
        indices: NDArray[np.int64] | None = None,
    ) -> dict[str, Tensor]:
        """Call `function(embeds, labels)` on every batch, and return its concatenated columns on the CPU."""
        device = self.accelerator.device
        gathered: list[dict[str, Tensor]] = []
        # ZeRO-3 reuses gathered tensors in the next training step, which inference tensors do not allow
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        with torch.no_grad() if sharded else torch.inference_mode(), exact_float32():
            for batch in self._dataloader(task, split, indices):
                pixels = task.transform.normalize(batch["pixel_values"].to(device, non_blocking=True))
                columns = function(_embed(tower, pixels), batch["labels"].to(device, non_blocking=True))
                gathered.append(self.accelerator.gather_for_metrics(columns))
                self.progress.advance(len(next(iter(gathered[-1].values()))))
        return {name: torch.cat([columns[name] for columns in gathered]).cpu() for name in gathered[0]}

    def _dataloader(self, task: PreparedTask, split: str, indices: NDArray[np.int64] | None) -> Batches:
        images = task.images[split]
        if indices is not None:
            return self._prepare(Subset(images, indices.tolist()))
        if id(images) not in self._dataloaders:
            self._dataloaders[id(images)] = self._prepare(images)
        return self._dataloaders[id(images)]

    def _prepare(self, images: Dataset[Example]) -> Batches:
        pinned = self.accelerator.device.type == "cuda"
        dataloader = DataLoader(images, batch_size=self.batch_size, collate_fn=collate, pin_memory=pinned)
        # `_gather` moves the batches itself: whether accelerate's loader waits for each copy depends on its settings.
        batches: Batches = self.accelerator.prepare_data_loader(dataloader, device_placement=False)
        return batches


@contextmanager
def exact_float32() -> Iterator[None]:
    """Compute float32 products in full inside the block.

    PyTorch lets convolutions on GPUs round their inputs to TF32 by default, which moved one image of 500 in a test.
    """
    backends = torch.backends.cuda.matmul, torch.backends.cudnn.conv  # type: ignore[attr-defined]
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


def _embed(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Return float32 image embeddings (batch, embed_dim) for normalised pixels. On a CPU, the batch may be split."""
    pixels = pixels.to(next(tower.parameters()).dtype)
    groups = pixels.chunk(_num_groups(tower, pixels)) if pixels.device.type == "cpu" else (pixels,)
    return torch.cat([tower(pixel_values=group).image_embeds.float() for group in groups])


def _num_groups(tower: nn.Module, pixels: Tensor) -> int:
    """Return how many groups to split a batch into on a CPU, to limit the size of the largest (MLP) activation."""
    config = cast(Any, tower.config)
    if hasattr(config, "patch_size"):
        activation = ((config.image_size // config.patch_size) ** 2 + 1) * config.intermediate_size
    else:
        activation = CONVOLUTION_EXPANSION * pixels[0].numel()
    return math.ceil(len(pixels) * int(activation) * pixels.element_size() / CPU_ACTIVATION_BYTES)
