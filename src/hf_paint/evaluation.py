"""Evaluation: what a model does on a task, at one alpha or at every alpha of a sweep (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from tqdm.auto import tqdm
from transformers import CLIPModel, CLIPProcessor

from hf_paint.curve import AlphaCurve
from hf_paint.data import Split, load_splits
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
from hf_paint.heads import ZeroShotHead, build_zero_shot_head, default_cache_dir
from hf_paint.images import CachedImages, PixelTransform, StreamedImages, collate
from hf_paint.interpolation import check_alpha, interpolated
from hf_paint.metrics import expected_calibration_error, mean_per_class_accuracy
from hf_paint.modeling import image_tower, image_tower_weights
from hf_paint.results import Result, ResultLog, Role, format_alpha
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
    images: Mapping[str, CachedImages | StreamedImages]


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
    """
    cache_dir = default_cache_dir() if cache_dir is None else cache_dir
    transform = PixelTransform(processor)
    loaded = load_splits(task, splits)
    if not loaded:
        raise InputError(f"Task '{task.name}' has none of the splits {', '.join(splits)}.")
    class_names = next(iter(loaded.values())).class_names
    head = build_zero_shot_head(model, processor.tokenizer, class_names, task.templates, cache_dir=cache_dir)
    images = {name: _images(split, transform, cache_dir) for name, split in loaded.items()}
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
    prepared = [prepare_task(task, model, processor, splits=(split,)) for task in tasks]
    model.to(accelerator.device).eval()
    tower = image_tower(model)
    weights = fingerprint_weights(image_tower_weights(model))
    evaluator = Evaluator(accelerator, batch_size=batch_size, precision=precision)
    results = []
    for task in tqdm(prepared, "Evaluating", unit="task", disable=not accelerator.is_local_main_process):
        predictions = evaluator.predict(tower, task, split)
        results.append(score(predictions, evaluator.pending(task, split, alpha=0.0, weights=weights)))
    return results


def sweep_alphas(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    alphas: Iterable[float],
    tasks: Sequence[PreparedTask],
    *,
    model: nn.Module,
    log: ResultLog,
    evaluator: "Evaluator",
    extrapolate: bool = False,
) -> AlphaCurve:
    """Evaluate every alpha on every split of every task; what the log knows is not evaluated again.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        theta_1: The image tower after fine-tuning.
        alphas: The alphas; 0 is always added, as the zero-shot row that everything is compared with.
        tasks: The prepared tasks.
        model: An image tower to carry the weights; it has its own weights again afterwards.
        log: Where each record goes as soon as it is known.
        evaluator: Runs the model.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        The curve of these alphas and tasks.
    """
    alphas = sorted({0.0, *map(float, alphas)})
    for alpha in alphas:
        check_alpha(alpha, extrapolate=extrapolate)
    ends = fingerprint_weights(theta_0), fingerprint_weights(theta_1)
    wanted = [(task, split) for task in tasks for split in task.images]
    results = []
    main = evaluator.accelerator.is_local_main_process
    with tqdm(total=len(alphas) * len(wanted), desc="Sweeping alpha", unit="evaluation", disable=not main) as progress:
        for alpha in alphas:
            weights = fingerprint_interpolation(*ends, alpha)
            pending = [evaluator.pending(task, split, alpha=alpha, weights=weights) for task, split in wanted]
            known = [log.find(result.key) for result in pending]
            carried = interpolated(model, theta_0, theta_1, alpha, extrapolate=extrapolate)
            with nullcontext(model) if all(known) else carried as tower:
                for (task, split), result, found in zip(wanted, pending, known, strict=True):
                    progress.set_postfix_str(f"alpha {format_alpha(alpha)}, {task.task.name} {split}")
                    results.append(found or _evaluate(tower, task, split, result, log, evaluator))
                    progress.update()
    return AlphaCurve(results, folder=log.folder)


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
        gathered = []
        for batch in self._dataloader(task, split):
            pixels = task.transform.normalize(batch["pixel_values"].to(device))
            with torch.autocast(device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
                image_embeds = tower(pixel_values=pixels).image_embeds
            outputs = _outputs(head(image_embeds.float()), batch["labels"].to(device))
            gathered.append([output.cpu() for output in self.accelerator.gather_for_metrics(outputs)])
        return Predictions(*(torch.cat(column).numpy() for column in zip(*gathered, strict=True)))

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


def _evaluate(
    tower: nn.Module, task: PreparedTask, split: str, pending: Result, log: ResultLog, evaluator: Evaluator
) -> Result:
    predictions = evaluator.predict(tower, task, split)
    result = score(predictions, pending)
    log.append(result, predictions.correct)
    return result


def _outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, predicted class, its probability and the loss, each (batch,), of logits (batch, num_classes)."""
    confidence, predicted = logits.softmax(dim=-1).max(dim=-1)
    return labels, predicted, confidence, functional.cross_entropy(logits, labels, reduction="none")


def _images(split: Split, transform: PixelTransform, cache_dir: str | Path) -> CachedImages | StreamedImages:
    if split.task.streaming:
        return StreamedImages(split, transform)
    return CachedImages(split, transform, cache_dir=cache_dir)
