"""Evaluation: what a model does on a task."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator, PartialState
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import CLIPModel, CLIPProcessor

from hf_paint.data import load_splits
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.heads import ZeroShotHead, build_zero_shot_head, default_cache_dir
from hf_paint.images import CachedImages, collate
from hf_paint.metrics import expected_calibration_error, mean_per_class_accuracy
from hf_paint.modeling import image_tower, image_tower_weights
from hf_paint.pixels import PixelTransform
from hf_paint.results import Result, Role, format_alpha
from hf_paint.tasks import Task


Precision = Literal["fp32", "bf16"]


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says about each image of a split; each array has shape (num_images,).

    Attributes:
        labels: The class index of the image.
        predicted: The class index of the highest logit.
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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedTask:
    """A task that is ready to be evaluated: its head is built and its images are decoded.

    Attributes:
        task: The task.
        role: What the task is for.
        class_names: The class names, in the order of the logits.
        head: The zero-shot head.
        transform: Normalises pixels.
        images: The images of each split, `validation` and `test` where the task has them.
    """

    task: Task
    role: Role
    class_names: tuple[str, ...]
    head: ZeroShotHead
    transform: PixelTransform
    images: Mapping[str, CachedImages]


def prepare_task(
    task: Task,
    model: CLIPModel,
    processor: CLIPProcessor,
    *,
    role: Role = "supported",
    splits: Sequence[str] = ("validation", "test"),
    cache_dir: str | Path | None = None,
) -> PreparedTask:
    """Load the splits of a task, decode their images once, and build its head.

    Args:
        task: The task.
        model: The model whose text tower builds the head.
        processor: The processor of the model.
        role: What the task is for.
        splits: The splits that are wanted; those that the task does not have are left out.
        cache_dir: Where decoded pixels and heads are kept; `hf_paint.heads.default_cache_dir()` by default.

    Raises:
        InputError: If the data set, a split, a column, a label or an image cannot be used.

    Example:
        >>> prepared = prepare_task(task, model, processor, splits=("test",))
        >>> len(prepared.images["test"])
        40
    """
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    transform = PixelTransform(processor)
    loaded = load_splits(task, splits)
    if not loaded:
        raise InputError(f"Task '{task.name}' has none of the splits {', '.join(splits)}.")
    class_names = next(iter(loaded.values())).class_names
    with PartialState().local_main_process_first():  # the others read what the first one cached
        head = build_zero_shot_head(model, processor.tokenizer, class_names, task.templates, cache_dir=cache_dir)
    images = {name: CachedImages(split, transform, cache_dir=cache_dir) for name, split in loaded.items()}
    return PreparedTask(task=task, role=role, class_names=class_names, head=head, transform=transform, images=images)


def evaluate_tasks(
    model: CLIPModel,
    tasks: Sequence[Task],
    *,
    processor: CLIPProcessor,
    split: str = "test",
    precision: Precision = "fp32",
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
) -> list[Result]:
    """Evaluate a model on tasks, over all processes of the launcher.

    Args:
        model: The model, both towers.
        tasks: The tasks.
        processor: The processor of the model.
        split: `validation` or `test`.
        precision: The arithmetic of the forward pass; logits and metrics are float32 in any case.
        batch_size: Images per process and forward pass.
        accelerator: The accelerator; one is made by default.

    Returns:
        One result per task, the same on every process. `alpha` is 0: the model is taken as it is.

    Raises:
        InputError: If a task cannot be used or does not have the split.

    Example:
        >>> [result] = evaluate_tasks(model, [task], processor=processor)
        >>> result.total
        40
    """
    accelerator = accelerator or Accelerator()
    model.to(accelerator.device).eval()
    prepared = [prepare_task(task, model, processor, splits=(split,)) for task in tasks]
    tower = image_tower(model)
    weights = fingerprint_weights(image_tower_weights(model))
    evaluator = Evaluator(accelerator, batch_size=batch_size, precision=precision)
    results = []
    for task in tqdm(prepared, "Evaluating", unit="task", disable=not accelerator.is_local_main_process):
        predictions = evaluator.predict(tower, task, split)
        results.append(score(predictions, evaluator.pending(task, split, alpha=0.0, weights=weights)))
    return results


class Evaluator:
    """Runs image towers over prepared tasks: one dataloader per (task, split), reused at every alpha.

    Args:
        accelerator: Spreads the batches over the processes and gathers what they say.
        batch_size: Images per process and forward pass.
        precision: The arithmetic of the forward pass.
    """

    def __init__(self, accelerator: Accelerator, *, batch_size: int = 128, precision: Precision = "fp32") -> None:
        self.accelerator = accelerator
        self.batch_size = batch_size
        self.precision: Precision = precision
        self._dataloaders: dict[int, Any] = {}

    @torch.inference_mode()
    def predict(self, tower: nn.Module, task: PreparedTask, split: str) -> Predictions:
        """Return what an image tower says about every image of a split, in order and the same on every process."""
        device = self.accelerator.device
        head = task.head.to(device)
        dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        tower = tower if dtype == torch.float32 else deepcopy(tower).to(dtype)
        gathered = []
        for batch in self._dataloader(task, split):
            pixels = task.transform.normalize(batch["pixel_values"].to(device))
            image_embeds = tower(pixel_values=pixels.to(dtype)).image_embeds
            outputs = _outputs(head(image_embeds.float()), batch["labels"].to(device))
            gathered.append([output.cpu() for output in self.accelerator.gather_for_metrics(outputs)])
        predictions = Predictions(*(torch.cat(column).numpy() for column in zip(*gathered, strict=True)))
        if not np.isfinite(predictions.loss).all():
            raise FloatingPointError(
                f"The loss on {task.task.name} is not finite: training has diverged. Lower the learning rate."
            )
        return predictions

    def pending(self, task: PreparedTask, split: str, *, alpha: float, weights: str) -> Result:
        """Return the record of an evaluation before it has been made: everything but the counts."""
        name = f"{task.task.name}-{split}-alpha-{format_alpha(alpha)}-{weights[:8]}"
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
            examples=f"correct/{name}.npy",
        )

    def _dataloader(self, task: PreparedTask, split: str) -> Any:
        images = task.images[split]
        if id(images) not in self._dataloaders:
            dataloader: Any = DataLoader(images, batch_size=self.batch_size, collate_fn=collate)
            self._dataloaders[id(images)] = self.accelerator.prepare_data_loader(dataloader)
        return self._dataloaders[id(images)]


def score(predictions: Predictions, pending: Result) -> Result:
    """Fill a pending record with the counts and metrics of the predictions."""
    correct = predictions.correct
    return replace(
        pending,
        correct=int(correct.sum()),
        total=len(correct),
        mean_per_class=mean_per_class_accuracy(predictions.predicted, predictions.labels),
        loss=float(np.mean(predictions.loss, dtype=np.float64)),
        ece=expected_calibration_error(predictions.confidence, correct),
    )


def _outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, predicted class, its probability and the loss, each (batch,), of logits (batch, num_classes)."""
    predicted = logits.argmax(dim=-1)
    confidence = logits.softmax(dim=-1).amax(dim=-1)
    return labels, predicted, confidence, functional.cross_entropy(logits, labels, reduction="none")
