"""The predictions of a model for the images of a split, and their scores."""

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
    """The predictions for the images of a split; each array has shape (num_images,).

    Attributes:
        labels: The class index of the image, or the position of its answer.
        predicted: The index of the highest logit.
        confidence: The probability of that class.
        loss: The cross-entropy of the image, in nats.
        written: The class index of the word on the image; None if no words are written on the images.
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
        """Whether each image is classified as the wrong word that is written on it, shape (num_images,)."""
        if self.written is None:
            return None
        attacked: NDArray[np.bool_] = (self.predicted == self.written) & (self.written != self.labels)
        return attacked


def predictions_from_logits(logits: Tensor, labels: Tensor, written: NDArray[np.int64] | None = None) -> Predictions:
    """Return the predictions from logits (num_images, num_classes) and labels and words (num_images,).

    Args:
        logits: The logits, on the CPU.
        labels: The class indices.
        written: The class index of the word on each image, if there are such words.
    """
    return predictions_from_outputs(outputs(logits, labels), written)


def predictions_from_outputs(columns: Mapping[str, Tensor], written: NDArray[np.int64] | None = None) -> Predictions:
    """Return the predictions in the columns of `outputs`, on the CPU."""
    return Predictions(
        labels=columns["labels"].numpy(),
        predicted=columns["predicted"].numpy(),
        confidence=columns["confidence"].numpy(),
        loss=columns["loss"].numpy(),
        written=written,
    )


def outputs(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Return labels, predicted class, its probability and the loss, all (batch,), of logits (batch, num_classes)."""
    return {
        "labels": labels,
        "predicted": logits.argmax(dim=-1),
        "confidence": logits.softmax(dim=-1).amax(dim=-1),
        "loss": functional.cross_entropy(logits, labels, reduction="none"),
    }


def score(predictions: Predictions, task: PreparedTask, split: str) -> Scores:
    """Compute the counts and metrics of the predictions for a split of a task."""
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
    """Return the mean absolute error of the counts; None if the classes are not counts."""
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
