"""Run image towers on the images of tasks."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_paint.data.images import CachedImages
from hf_paint.data.prefetching import Batch, prefetch
from hf_paint.errors import JobError
from hf_paint.evaluation.forward import default_batch_size, embed
from hf_paint.evaluation.predictions import Predictions, outputs, predictions_from_outputs
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.evaluation.progress import EvaluationProgress
from hf_paint.models.classifier import ImageClassifier
from hf_paint.models.compilation import compile_blocks, is_compiled, pays
from hf_paint.models.devices import free_memory
from hf_paint.models.linear_layers import choose_onednn
from hf_paint.models.products import float32_products
from hf_paint.models.towers import copy_with
from hf_paint.results.alphas import Alpha
from hf_paint.results.image_files import correct_file
from hf_paint.results.records import Result


Precision = Literal["fp32", "bf16"]


class Evaluator:
    """Runs image towers on prepared tasks.

    Each process evaluates an equal share of consecutive images; what they find is gathered once per split.

    Args:
        accelerator: Accelerator that gathers what the processes find.
        batch_size: Number of images per process and forward pass; by default 128, and on a GPU more for small towers.
            On a CPU, batches are split if the activations would be too large.
        precision: Precision of the forward pass.
        compile: Compile the towers returned by `carrier`, which takes seconds once. By default, they are compiled on a
            GPU if the images announced by `expect` are so many that it pays.
        onednn: Use oneDNN's linear layers in float32 on a CPU; by default, if it is measured to be faster.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        *,
        batch_size: int | None = None,
        precision: Precision = "fp32",
        compile: bool | None = None,
        onednn: bool | None = None,
    ) -> None:
        self.accelerator = accelerator
        self.batch_size = batch_size
        self.precision: Precision = precision
        self.compile = compile
        self.onednn = onednn
        self.progress: EvaluationProgress = EvaluationProgress(accelerator)
        self._kept: dict[int, list[Batch]] | None = None

    def with_precision(self, precision: Precision) -> "Evaluator":
        """Return an evaluator with the same options but a different precision."""
        options = {"compile": self.compile, "onednn": self.onednn}
        return Evaluator(self.accelerator, batch_size=self.batch_size, precision=precision, **options)

    def images_at_once(self, tower: nn.Module) -> int:
        """Return the number of images per process and forward pass of a tower."""
        return self.batch_size or default_batch_size(tower, self.accelerator.device)

    @contextmanager
    def keeping_pixels(self) -> Iterator[None]:
        """Keep the pixels of evaluated splits on a GPU inside the block, as long as half of its memory stays free."""
        before, self._kept = self._kept, self._kept or {}
        try:
            yield
        finally:
            self._kept = before

    def carrier(self, tower: nn.Module) -> nn.Module:
        """Return a copy of an image tower in the evaluation dtype. Its weights can be overwritten."""
        device, dtype = self.accelerator.device, torch.bfloat16 if self.precision == "bf16" else torch.float32
        parameters = tower.named_parameters()  # converted one by one, as a full float32 copy may not fit
        copies = {name: x.detach().to(device, dtype, copy=True) for name, x in parameters}
        carrier = copy_with(tower, copies).to(device, dtype).eval().requires_grad_(False)
        if isinstance(carrier, ImageClassifier):
            carrier.head.float()  # like zero-shot heads, whatever the dtype of the tower
        if self.precision == "fp32":
            choose_onednn(carrier, self.onednn, device)
        if self.compile:
            self._compile(carrier)
        return carrier

    def expect(self, tower: nn.Module, num_images: int) -> None:
        """Compile a tower from `carrier` if that is left to the evaluator, and pays for this number of images."""
        device, share = self.accelerator.device, num_images // self.accelerator.num_processes
        if self.compile is None and not is_compiled(tower) and pays(tower, device, share, backward=False):
            self._compile(tower)

    def _compile(self, tower: nn.Module) -> None:
        """Compile a tower; its weights are inputs, so overwriting them does not compile it again."""
        compile_blocks(tower, size=self.images_at_once(tower), backward=False)

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
            JobError: If a loss is not finite.
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
            raise JobError(
                f"The loss on {task.task.name} is NaN or inf, although no weight is: the model overflows on these "
                "images. Train with a lower learning rate, or evaluate in float32."
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
        """Call `function(embeds, labels)` on every batch, and return its columns for all images on the CPU."""
        images = task.images[split]
        rows: Sequence[int] = range(len(images)) if indices is None else indices.tolist()
        own, columns, done = self._share(rows), dict[str, Tensor](), 0
        # ZeRO-3 reuses gathered tensors in the next training step, which inference tensors do not allow
        sharded = self.accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED)
        with torch.no_grad() if sharded else torch.inference_mode(), float32_products():
            for batch in self._batches(images, own, self.images_at_once(tower), whole=indices is None):
                found = function(embed(tower, task.transform.normalize(batch["pixel_values"])), batch["labels"])
                if not columns:  # allocated once: pieces between the batches would fragment the memory
                    columns = {name: x.new_empty((len(own), *x.shape[1:])) for name, x in found.items()}
                for name, x in found.items():
                    columns[name][done : done + len(x)] = x
                done += len(batch["labels"])
                self.progress.advance(len(batch["labels"]))
            return {name: _on_cpu(x[: len(rows)]) for name, x in self._gathered(columns).items()}

    def _share(self, rows: Sequence[int]) -> Sequence[int]:
        """Return the rows of this process; the last processes repeat the last row, so that all have equally many."""
        size = -(-len(rows) // self.accelerator.num_processes)
        own = rows[self.accelerator.process_index * size :][:size]
        return own if len(own) == size else [*own, *[rows[-1]] * (size - len(own))]

    def _gathered(self, columns: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the columns of all processes, one after the other."""
        gathered: dict[str, Tensor] = self.accelerator.gather(columns)
        return gathered

    def _batches(self, images: CachedImages, rows: Sequence[int], size: int, *, whole: bool) -> Iterable[Batch]:
        """Return batches on the device, which may have been kept there."""
        kept = self._kept
        if whole and kept is not None and id(images) in kept:
            return kept[id(images)]
        batches = prefetch(images.batches(size, rows), self.accelerator.device)
        fits = len(rows) * images.pixels[:1].nbytes < free_memory(self.accelerator.device) / 2
        return _keep(batches, kept, id(images)) if whole and kept is not None and fits else batches


def _keep(batches: Iterable[Batch], kept: dict[int, list[Batch]], key: int) -> Iterator[Batch]:
    """Yield batches, and keep them if all are asked for."""
    found = []
    for batch in batches:
        found.append(batch)
        yield batch
    kept[key] = found


def _on_cpu(x: Tensor) -> Tensor:
    """Return a tensor on the CPU, in memory of its own."""
    return x.cpu() if x.device.type != "cpu" else x.contiguous()
