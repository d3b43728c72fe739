"""What a model says about the images of a split, and how it is scored."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from hf_paint.evaluation.metrics import expected_calibration_error, mean_absolute_error, mean_per_class_accuracy
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.results.records import Result
from hf_paint.tasks.counting import CountingTask, count_values


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """What a model says about each image of a split; each array has shape (num_images,).

    Attributes:
        labels: The class index of the image, or the position of its answer.
        predicted: The index of the highest logit.
        confidence: The probability of that class.
        loss: The cross-entropy of the image, in nats.
        written: The class index of the word that is written on the image; None where no words are written.
    """

    labels: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confidence: NDArray[np.float32]
    loss: NDArray[np.float32]
    written: NDArray[np.int64] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which images are right, shape (num_images,)."""
        correct: NDArray[np.bool_] = self.predicted == self.labels
        return correct

    @property
    def attacked(self) -> NDArray[np.bool_] | None:
        """Which images are taken for the wrong word that is written on them, shape (num_images,)."""
        if self.written is None:
            return None
        attacked: NDArray[np.bool_] = (self.predicted == self.written) & (self.written != self.labels)
        return attacked


def predictions_from_logits(logits: Tensor, labels: Tensor, written: NDArray[np.int64] | None = None) -> Predictions:
    """Return what logits (num_images, num_classes) say about images with these labels and words (num_images,)."""
    columns = outputs(logits, labels)
    return replace(Predictions(*(column.numpy() for column in columns)), written=written)


def outputs(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return labels, predicted class, its probability and the loss, each (batch,), of logits (batch, num_classes)."""
    predicted = logits.argmax(dim=-1)
    confidence = logits.softmax(dim=-1).amax(dim=-1)
    return labels, predicted, confidence, functional.cross_entropy(logits, labels, reduction="none")


def score(predictions: Predictions, pending: Result, task: PreparedTask) -> Result:
    """Fill a pending record of a task with the counts and metrics of the predictions."""
    correct, attacked, error = predictions.correct, predictions.attacked, None
    if isinstance(task.task, CountingTask):
        values = count_values(task.class_names)
        error = mean_absolute_error(values[predictions.predicted], values[predictions.labels])
    choices = task.images[pending.split].choices
    answer_types = None if choices is None else choices.answer_types
    return replace(
        pending,
        correct=int(correct.sum()),
        total=len(correct),
        attack_success=None if attacked is None else int(attacked.sum()),
        mean_per_class=mean_per_class_accuracy(predictions.predicted, predictions.labels) if choices is None else None,
        loss=float(np.mean(predictions.loss, dtype=np.float64)),
        ece=expected_calibration_error(predictions.confidence, correct),
        mean_absolute_error=error,
        answer_types=None if answer_types is None else _by_type(correct, answer_types),
    )


def _by_type(correct: NDArray[np.bool_], answer_types: Sequence[str]) -> dict[str, list[int]]:
    types = np.array(answer_types)
    return {str(kind): [int(correct[types == kind].sum()), int((types == kind).sum())] for kind in np.unique(types)}
