"""Predictions of a model on the images of a split, and the scores computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import evaluate
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hf_paint.data.label_lists import labelled
from hf_paint.evaluation.average_precision import average_precisions, mean_average_precision
from hf_paint.evaluation.metrics import (
    Accuracy,
    ArrayMetric,
    ExpectedCalibrationError,
    MeanAbsoluteError,
    MeanLoss,
    MeanPerClassAccuracy,
)
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.losses import losses, relative_entropies
from hf_paint.results.calibration import Calibration
from hf_paint.results.details import MISSING, NUM_CANDIDATES, Answers, Confusion, Details, sample_images
from hf_paint.results.scores import Scores
from hf_paint.tasks.counting import CountingTask, count_values


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions for the images of a split. Each array has shape (num_images,), unless another is given.

    Attributes:
        labels: Index of the correct class or answer, or -1 without a label. For a multi-label task, shape (num_images,
            max_classes): the classes of each image, padded with -1.
        predicted: Index of the predicted class or answer, i.e. of the highest logit.
        confidence: Probability of the predicted class or answer.
        loss: Cross-entropy in nats; 0 for images without a class.
        written: Class index of the word written on the image. None if the images have no words on them.
        average_precisions: Average precision of each class of a multi-label task, shape (num_classes,), NaN for
            classes that all or none of the images have. None for other tasks, and if not all images were evaluated.
        candidates: Indices of the most probable classes or answers, best first, shape (num_images, up to 3); -1 if an
            image has fewer. None if not all images were evaluated.
        probabilities: Their probabilities, shape (num_images, up to 3). None if not all images were evaluated.
        relative_entropy: Entropy of the predicted probabilities as a fraction of the largest one, log(number of
            classes or answers). None for a multi-label task.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    written: NDArray[np.int64] | None = None
    average_precisions: NDArray[np.float64] | None = None
    candidates: NDArray[np.int64] | None = None
    probabilities: NDArray[np.float32] | None = None
    relative_entropy: NDArray[np.float32] | None = None

    @property
    def counted(self) -> NDArray[np.int64]:
        """Indices of the images that accuracy counts, shape (num_counted,): all but those without a class."""
        return np.flatnonzero(labelled(self.labels))

    @property
    def references(self) -> NDArray[np.int64]:
        """Class of each counted image, shape (num_counted,); of several, the predicted one if it is among them."""
        labels, predicted = self.labels[self.counted], self.predicted[self.counted]
        if labels.ndim == 1:
            return labels
        references: NDArray[np.int64] = np.where((labels == predicted[:, None]).any(axis=1), predicted, labels[:, 0])
        return references

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each counted image is classified correctly, shape (num_counted,)."""
        correct: NDArray[np.bool_] = self.predicted[self.counted] == self.references
        return correct

    @property
    def attacked(self) -> NDArray[np.bool_] | None:
        """Whether each image is misclassified as the word written on it, shape (num_images,)."""
        if self.written is None:
            return None
        attacked: NDArray[np.bool_] = (self.predicted == self.written) & (self.written != self.labels)
        return attacked


def predictions_from_logits(logits: Tensor, labels: Tensor, written: NDArray[np.int64] | None = None) -> Predictions:
    """Make predictions from logits.

    Args:
        logits: Logits on the CPU, shape (num_images, num_classes).
        labels: Class indices, shape (num_images,), or (num_images, max_classes) for a multi-label task.
        written: Class index of the word written on each image, if any, shape (num_images,).
    """
    return predictions_from_outputs(outputs(logits, labels), written)


def predictions_from_outputs(columns: Mapping[str, Tensor], written: NDArray[np.int64] | None = None) -> Predictions:
    """Make predictions from the columns returned by `outputs`, which must be on the CPU."""
    candidates, probabilities = columns["candidates"].numpy(), columns["probabilities"].numpy()
    return Predictions(
        labels=columns["labels"].numpy(),
        predicted=candidates[:, 0].copy(),
        confidence=probabilities[:, 0].copy(),
        loss=columns["loss"].numpy(),
        written=written,
        average_precisions=_average_precisions(columns) if "scores" in columns else None,
        candidates=candidates,
        probabilities=probabilities,
        relative_entropy=columns["relative_entropy"].numpy() if "relative_entropy" in columns else None,
    )


def _average_precisions(columns: Mapping[str, Tensor]) -> NDArray[np.float64]:
    return average_precisions(columns["scores"].numpy(), columns["labels"].numpy())


def outputs(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return labels, losses and relative entropies, (batch,), and the best candidates with their probabilities.

    Candidates and probabilities are (batch, up to 3).

    Logits are (batch, num_classes); minus infinity stands for a missing candidate, which is returned as -1. If images
    can have several classes, i.e. labels are (batch, max_classes), the logits are returned as `scores`, and no
    entropies: one distribution over the classes does not say which of them an image shows.
    """
    candidates = _best_candidates(logits)
    columns = {
        "labels": labels,
        "candidates": candidates,
        "probabilities": logits.softmax(dim=-1).gather(-1, candidates.clamp(min=0)),
        "loss": losses(logits, labels),
    }
    own = {"relative_entropy": relative_entropies(logits)} if labels.dim() == 1 else {"scores": logits}
    return columns | own


def _best_candidates(logits: Tensor) -> Tensor:
    """Return the columns of the largest logits, largest first; `topk` would return equal ones in any order."""
    remaining, best = logits.clone(), []
    for _ in range(min(NUM_CANDIDATES, logits.shape[-1])):
        values, columns = remaining.max(dim=-1, keepdim=True)
        best.append(columns.masked_fill(values.isneginf(), MISSING))
        remaining.scatter_(-1, columns, -torch.inf)
    return torch.cat(best, dim=-1)


def score(predictions: Predictions, task: PreparedTask, split: str) -> Scores:
    """Compute counts and metrics from the predictions on a split of a task."""
    choices, attacked, counted = task.images[split].choices, predictions.attacked, predictions.counted
    entropy = predictions.relative_entropy
    relative_entropy = None if entropy is None else float(np.mean(entropy, dtype=np.float64))
    if not len(counted):  # an unlabelled split
        return Scores(correct=0, total=0, relative_entropy=relative_entropy)
    metrics: list[ArrayMetric] = [Accuracy(), MeanLoss(), ExpectedCalibrationError()]
    if choices is None and predictions.labels.ndim == 1:
        metrics.append(MeanPerClassAccuracy())
    values = evaluate.combine(metrics).compute(
        predictions=predictions.predicted[counted],
        references=predictions.references,
        confidences=predictions.confidence[counted],
        losses=predictions.loss[counted],
    )
    precisions = predictions.average_precisions
    return Scores(
        correct=values["correct"],
        total=values["total"],
        attack_success=None if attacked is None else int(attacked.sum()),
        mean_per_class=values.get("mean_per_class"),
        loss=values["loss"],
        ece=values["ece"],
        mean_absolute_error=_counting_error(predictions, task),
        mean_average_precision=None if precisions is None else mean_average_precision(precisions),
        relative_entropy=relative_entropy,
        answer_types=None if choices is None else _by_type(predictions.correct, choices.answer_types),
    )


def details_of(predictions: Predictions, task: PreparedTask, split: str) -> Details:
    """Compute what is recorded beside the scores (see `hf_paint.results.details`)."""
    counted, candidates, probabilities = predictions.counted, predictions.candidates, predictions.probabilities
    answers = None
    if candidates is not None and probabilities is not None and split == task.reported_split:
        sample = sample_images(counted)
        answers = Answers(images=sample, candidates=candidates[sample], probabilities=probabilities[sample])
    has_classes = task.images[split].choices is None
    return Details(
        calibration=Calibration.of(predictions.confidence[counted], predictions.correct),
        confusion=_confusion(predictions) if has_classes else None,
        answers=answers,
    )


def _confusion(predictions: Predictions) -> Confusion:
    """Count each image under its first class, so that the images of a class are the same ones for all weights."""
    counted = predictions.counted
    classes = predictions.labels.reshape(len(predictions.labels), -1)[counted, 0]
    return Confusion.of(classes, np.where(predictions.correct, classes, predictions.predicted[counted]))


def _counting_error(predictions: Predictions, task: PreparedTask) -> float | None:
    """Return the mean absolute error of predicted counts, or None if the task is not a counting task."""
    if not isinstance(task.task, CountingTask):
        return None
    values = count_values(task.class_names)
    predicted, true = values[predictions.predicted], values[predictions.labels]
    return MeanAbsoluteError().compute(predictions=predicted, references=true)["mean_absolute_error"]


def _by_type(correct: NDArray[np.bool_], answer_types: Sequence[str] | None) -> dict[str, list[int]] | None:
    if answer_types is None:
        return None
    types = np.array(answer_types)
    return {str(kind): [int(correct[types == kind].sum()), int((types == kind).sum())] for kind in np.unique(types)}
