"""The evaluator: runs image towers over the images of tasks, and scores what they say."""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from transformers import CLIPVisionConfig

from hf_paint.alphas import Alpha, Coefficients, format_alpha
from hf_paint.counting import count_values
from hf_paint.images import collate
from hf_paint.metrics import expected_calibration_error, mean_absolute_error, mean_per_class_accuracy
from hf_paint.prepared_task import PreparedTask
from hf_paint.results import Result


Precision = Literal["fp32", "bf16"]
CPU_ACTIVATION_BYTES = 24 * 2**20
"""On a CPU, images go through the tower in groups whose largest activation stays below this.

Larger blocks come fresh from the operating system each time they are asked for (glibc maps what is above 32 MiB), and
the page faults cost a quarter of the time of a ViT-B/32.
"""


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says about each image of a split; each array has shape (num_images,).

    Attributes:
        labels: The class index of the image, or the position of its answer.
        predicted: The index of the highest logit.
        confidence: The probability of that class.
        loss: The cross-entropy of the image, in nats.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are right, shape (num_images,)."""
        correct: NDArray[np.bool_] = self.predicted == self.labels
        return correct


class Evaluator:
    """Runs image towers over prepared tasks: one dataloader per (task, split), reused at every alpha.

    Args:
        accelerator: Spreads the batches over the processes and gathers what they say.
        batch_size: Images per process and forward pass; on a CPU, fewer where the activations are large.
        precision: The arithmetic of the forward pass.
        compile: Compile the towers that `carrier` returns. It takes tens of seconds once, and pays on long sweeps.
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
        self.num_images = 0
        self._dataloaders: dict[int, Any] = {}

    def carrier(self, tower: nn.Module) -> nn.Module:
        """Return a copy of an image tower in the dtype of the evaluations, into which weights can be written."""
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        carrier = deepcopy(tower).to(self.accelerator.device, dtype).eval().requires_grad_(False)
        if self.compile:
            carrier.compile()  # the weights are its inputs: other values in the same tensors need no new compilation
        return carrier

    def predict(
        self, tower: nn.Module, task: PreparedTask, split: str, *, indices: NDArray[np.int64] | None = None
    ) -> Predictions:
        """Return what an image tower says about the images of a split, in order and the same on every process.

        Args:
            tower: The image tower, on the device of the accelerator.
            task: The task.
            split: The split.
            indices: Only these images, shape (num_indices,).

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        device = self.accelerator.device
        head = task.head.to(device)  # before inference mode: tensors made within could not be trained against
        gathered = []
        with torch.inference_mode():
            for batch in self._dataloader(task, split, indices):
                pixels = task.transform.normalize(batch["pixel_values"].to(device, non_blocking=True))
                labels = batch["labels"].to(device, non_blocking=True)
                outputs = _outputs(*head.compare(_embed(tower, pixels), labels))
                gathered.append(self.accelerator.gather_for_metrics(outputs))
        predictions = Predictions(*(torch.cat(column).cpu().numpy() for column in zip(*gathered, strict=True)))
        if not np.isfinite(predictions.loss).all():
            raise FloatingPointError(
                f"The loss on {task.task.name} is not finite: training has diverged. Lower the learning rate."
            )
        self.num_images += len(predictions.labels)
        return predictions

    def pending(self, task: PreparedTask, split: str, *, alpha: Alpha, weights: str, exact: bool = True) -> Result:
        """Return the record of an evaluation before it has been made: everything but the counts."""
        where = "combination" if isinstance(alpha, Coefficients) else f"alpha-{format_alpha(alpha)}"
        name = f"{task.task.name}-{split}-{where}-{weights[:8]}{'' if exact else '-adaptive'}"
        return Result(
            alpha=alpha,
            task=task.task.name,
            role=task.role,
            split=split,
            correct=0,
            total=0,
            weights=weights,
            head=task.head.fingerprint,
            data=task.images[split].fingerprint,
            precision=self.precision,
            exact=exact,
            examples=f"correct/{name}.npy",
        )

    def _dataloader(self, task: PreparedTask, split: str, indices: NDArray[np.int64] | None) -> Any:
        images = task.images[split]
        if indices is not None:
            return self._prepare(Subset(images, cast(Sequence[int], indices)))
        if id(images) not in self._dataloaders:
            self._dataloaders[id(images)] = self._prepare(images)
        return self._dataloaders[id(images)]

    def _prepare(self, images: Any) -> Any:
        pinned = self.accelerator.device.type == "cuda"
        dataloader: Any = DataLoader(images, batch_size=self.batch_size, collate_fn=collate, pin_memory=pinned)
        return self.accelerator.prepare_data_loader(dataloader)


def score(predictions: Predictions, pending: Result, task: PreparedTask) -> Result:
    """Fill a pending record of a task with the counts and metrics of the predictions."""
    correct = predictions.correct
    error = None
    if task.task.counting:
        values = count_values(task.class_names)
        error = mean_absolute_error(values[predictions.predicted], values[predictions.labels])
    answer_types, choices = task.images[pending.split].answer_types, task.task.choices_column is not None
    return replace(
        pending,
        correct=int(correct.sum()),
        total=len(correct),
        mean_per_class=None if choices else mean_per_class_accuracy(predictions.predicted, predictions.labels),
        loss=float(np.mean(predictions.loss, dtype=np.float64)),
        ece=expected_calibration_error(predictions.confidence, correct),
        mean_absolute_error=error,
        answer_types=None if answer_types is None else _by_type(correct, answer_types),
    )


def _by_type(correct: NDArray[np.bool_], answer_types: Sequence[str]) -> dict[str, list[int]]:
    types = np.array(answer_types)
    return {str(kind): [int(correct[types == kind].sum()), int((types == kind).sum())] for kind in np.unique(types)}


def _embed(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Return float32 image embeddings (batch, embed_dim) of normalised pixels, in groups that suit the device."""
    pixels = pixels.to(next(tower.parameters()).dtype)
    groups = pixels.chunk(_num_groups(tower, pixels)) if pixels.device.type == "cpu" else (pixels,)
    return torch.cat([tower(pixel_values=group).image_embeds.float() for group in groups])


def _num_groups(tower: nn.Module, pixels: Tensor) -> int:
    """Return into how many groups a batch is cut so that the largest activation, that of the MLP, suits a CPU."""
    config = cast(CLIPVisionConfig, tower.config)
    num_tokens = (cast(int, config.image_size) // cast(int, config.patch_size)) ** 2 + 1
    activation = len(pixels) * num_tokens * config.intermediate_size * pixels.element_size()
    return math.ceil(activation / CPU_ACTIVATION_BYTES)


def _outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, predicted class, its probability and the loss, each (batch,), of logits (batch, num_classes)."""
    predicted = logits.argmax(dim=-1)
    confidence = logits.softmax(dim=-1).amax(dim=-1)
    return labels, predicted, confidence, functional.cross_entropy(logits, labels, reduction="none")
