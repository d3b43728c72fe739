"""Predictions of a model on the images of a split, and the scores computed from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import evaluate
import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hf_paint.evaluation.metrics import (
    Accuracy,
    ArrayMetric,
    ExpectedCalibrationError,
    MeanAbsoluteError,
    MeanLoss,
    MeanPerClassAccuracy,
)
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.results.records import Scores
from hf_paint.tasks.counting import CountingTask, count_values


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """Predictions for the images of a split. Each array has shape (num_images,).

    Attributes:
        labels: Index of the correct class or answer.
        predicted: Index of the predicted class or answer, i.e. of the highest logit.
        confidence: Probability of the predicted class or answer.
        loss: Cross-entropy in nats.
        written: Class index of the word written on the image. None if the images have no words on them.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    written: NDArray[np.int64] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each image is classified correctly, shape (num_images,)."""
        correct: NDArray[np.bool_] = self.predicted == self.labels
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
        labels: Class indices, shape (num_images,).
        written: Class index of the word written on each image, if any, shape (num_images,).
    """
    return predictions_from_outputs(outputs(logits, labels), written)


def predictions_from_outputs(columns: Mapping[str, Tensor], written: NDArray[np.int64] | None = None) -> Predictions:
    """Make predictions from the columns returned by `outputs`, which must be on the CPU."""
    return Predictions(
        labels=columns["labels"].numpy(),
        predicted=columns["predicted"].numpy(),
        confidence=columns["confidence"].numpy(),
        loss=columns["loss"].numpy(),
        written=written,
    )


def outputs(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return labels, predicted classes, their probabilities and losses, all (batch,); logits: (batch, num_classes)."""
    return {
        "labels": labels,
        "predicted": logits.argmax(dim=-1),
        "confidence": logits.softmax(dim=-1).amax(dim=-1),
        "loss": functional.cross_entropy(logits, labels, reduction="none"),
    }


def score(predictions: Predictions, task: PreparedTask, split: str) -> Scores:
    """Compute counts and metrics from the predictions on a split of a task."""
    choices, attacked = task.images[split].choices, predictions.attacked
    metrics: list[ArrayMetric] = [Accuracy(), MeanLoss(), ExpectedCalibrationError()]
    if choices is None:
        metrics.append(MeanPerClassAccuracy())
    values = evaluate.combine(metrics).compute(
        predictions=predictions.predicted,
        references=predictions.labels,
        confidences=predictions.confidence,
        losses=predictions.loss,
    )
    return Scores(
        correct=values["correct"],
        total=values["total"],
        attack_success=None if attacked is None else int(attacked.sum()),
        mean_per_class=values.get("mean_per_class"),
        loss=values["loss"],
        ece=values["ece"],
        mean_absolute_error=_counting_error(predictions, task),
        answer_types=None if choices is None else _by_type(predictions.correct, choices.answer_types),
    )


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
