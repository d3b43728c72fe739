"""Classification metrics: pure functions on arrays, and `evaluate.Metric` classes that call them."""

from typing import ClassVar

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_paint.results.calibration import NUM_BINS, confidence_bins


DTYPES = {"predictions": "int64", "references": "int64", "confidences": "float32", "losses": "float32"}
"""Metric input -> dtype."""


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the fraction of predictions (num_images,) that equal the references (num_images,).

    Example:
        >>> accuracy([0, 1, 1, 1], [0, 1, 0, 1])
        0.75
    """
    return float(np.mean(np.asarray(predictions) == np.asarray(references)))


def mean_per_class_accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the accuracy within each class, averaged over the classes that occur in the references.

    Example:
        >>> mean_per_class_accuracy([0, 0, 0, 0], [0, 0, 0, 1])
        0.5
    """
    labels = np.asarray(references)
    correct = np.asarray(predictions) == labels
    totals = np.bincount(labels)
    present = totals > 0
    return float(np.mean(np.bincount(labels, weights=correct)[present] / totals[present]))


def mean_absolute_error(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the mean absolute difference between predictions (num_images,) and references (num_images,).

    Example:
        >>> mean_absolute_error([3, 5, 9], [3, 6, 7])
        1.0
    """
    return float(np.mean(np.abs(np.asarray(predictions) - np.asarray(references))))


def mean_loss(losses: ArrayLike) -> float:
    """Return the mean of the losses (num_images,), computed in float64.

    Example:
        >>> mean_loss([0.5, 1.5])
        1.0
    """
    return float(np.mean(np.asarray(losses), dtype=np.float64))


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = NUM_BINS) -> float:
    """Return the mean gap between confidence and accuracy over bins of equal width (Guo et al., 2017, Section 2).

    Args:
        confidences: Probability of the predicted class for each image, in [0, 1], shape (num_images,).
        correct: Whether the predicted class is the label, shape (num_images,).
        num_bins: Number of bins; bin i covers (i / num_bins, (i + 1) / num_bins].

    Example:
        >>> expected_calibration_error([0.9, 0.9], [True, False])
        0.4
    """
    confidence = np.asarray(confidences, dtype=np.float64)
    bins = confidence_bins(confidence, num_bins)
    gaps = np.bincount(bins, weights=confidence - np.asarray(correct, dtype=np.float64), minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


class ArrayMetric(evaluate.Metric):
    """Base class for `evaluate.Metric`s whose inputs are stored as arrays in memory.

    By default, `evaluate` encodes every value as a Python object and writes it to an Arrow file while holding a lock,
    which takes longer than computing the metric on a whole split. This class needs no file, lock or network access. In
    a distributed run, every process computes the metric on the gathered predictions.
    """

    inputs: ClassVar[tuple[str, ...]]
    """Names of the inputs. Each input is an array with one value per image."""

    def __init__(self) -> None:
        self._batches: list[dict[str, NDArray[np.generic]]] = []
        super().__init__(keep_in_memory=True)

    def __len__(self) -> int:
        return sum(len(next(iter(batch.values()))) for batch in self._batches)

    def add(self, *, prediction: float | None = None, reference: float | None = None, **inputs: float | None) -> None:
        """Add one image."""
        values = {"predictions": prediction, "references": reference, **inputs}
        self.add_batch(**{name: [value] for name, value in values.items() if value is not None})

    def add_batch(
        self, *, predictions: ArrayLike | None = None, references: ArrayLike | None = None, **inputs: ArrayLike | None
    ) -> None:
        """Add a batch of images.

        Raises:
            ValueError: If an input is missing or unknown, or their lengths differ.
        """
        columns = {"predictions": predictions, "references": references, **inputs}
        unknown = inputs.keys() - set(self.inputs)
        missing = [name for name in self.inputs if columns.get(name) is None]
        if unknown or missing:
            raise ValueError(
                f"{self.name} expects the inputs {', '.join(self.inputs)}; "
                f"missing: {missing}, unknown: {sorted(unknown)}."
            )
        batch = {name: np.asarray(columns[name]) for name in self.inputs}
        lengths = {name: len(column) for name, column in batch.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"The inputs of {self.name} must have the same length, got {lengths}.")
        self._batches.append(batch)

    def compute(
        self, *, predictions: ArrayLike | None = None, references: ArrayLike | None = None, **inputs: ArrayLike | None
    ) -> dict[str, float]:
        """Compute the metric on these and all previously added images, then discard the images.

        Inputs for other metrics are ignored, because `evaluate.combine` passes all inputs to every metric.

        Raises:
            ValueError: If there are no images, an input is missing, or their lengths differ.
        """
        columns = {"predictions": predictions, "references": references, **inputs}
        own = {name: columns[name] for name in self.inputs if columns.get(name) is not None}
        if own:
            self.add_batch(**own)
        if not len(self):
            raise ValueError(f"{self.name} needs at least one image, got none.")
        batches, self._batches = self._batches, []
        whole = {name: np.concatenate([batch[name] for batch in batches]) for name in self.inputs}
        result: dict[str, float] = self._compute(**whole)
        return result

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=str(self.__doc__),
            citation="",
            inputs_description=f"Arrays with one value per image: {', '.join(self.inputs)}.",
            features=datasets.Features({name: datasets.Value(DTYPES[name]) for name in self.inputs}),
        )

    def _build_data_dir(self) -> str:
        return ""  # prevents evaluate from creating a folder


class Accuracy(ArrayMetric):
    """Top-1 accuracy: the fraction of images whose predicted class is the label, along with the underlying counts.

    Example:
        >>> Accuracy().compute(predictions=[0, 1], references=[0, 0])
        {'accuracy': 0.5, 'correct': 1, 'total': 2}
    """

    inputs: ClassVar[tuple[str, ...]] = ("predictions", "references")

    def _compute(self, *, predictions: NDArray[np.int64], references: NDArray[np.int64]) -> dict[str, float]:
        correct = int((predictions == references).sum())
        return {"accuracy": accuracy(predictions, references), "correct": correct, "total": len(references)}


class MeanPerClassAccuracy(ArrayMetric):
    """Mean per-class accuracy: the accuracy within each class, averaged over the classes.

    Example:
        >>> MeanPerClassAccuracy().compute(predictions=[0, 0, 0], references=[0, 0, 1])
        {'mean_per_class': 0.5}
    """

    inputs: ClassVar[tuple[str, ...]] = ("predictions", "references")

    def _compute(self, *, predictions: NDArray[np.int64], references: NDArray[np.int64]) -> dict[str, float]:
        return {"mean_per_class": mean_per_class_accuracy(predictions, references)}


class MeanLoss(ArrayMetric):
    """Mean loss over the images.

    Example:
        >>> MeanLoss().compute(losses=[0.5, 1.5])
        {'loss': 1.0}
    """

    inputs: ClassVar[tuple[str, ...]] = ("losses",)

    def _compute(self, *, losses: NDArray[np.float32]) -> dict[str, float]:
        return {"loss": mean_loss(losses)}


class ExpectedCalibrationError(ArrayMetric):
    """Expected calibration error: the mean gap between confidence and accuracy over 15 bins of equal width.

    Example:
        >>> ExpectedCalibrationError().compute(predictions=[0, 1], confidences=[0.9, 0.9], references=[0, 0])
        {'ece': 0.4}
    """

    inputs: ClassVar[tuple[str, ...]] = ("predictions", "confidences", "references")

    def _compute(
        self, *, predictions: NDArray[np.int64], confidences: NDArray[np.float32], references: NDArray[np.int64]
    ) -> dict[str, float]:
        return {"ece": expected_calibration_error(confidences, predictions == references)}


class MeanAbsoluteError(ArrayMetric):
    """Mean absolute difference between predicted and true numbers.

    Example:
        >>> MeanAbsoluteError().compute(predictions=[3, 5, 9], references=[3, 6, 7])
        {'mean_absolute_error': 1.0}
    """

    inputs: ClassVar[tuple[str, ...]] = ("predictions", "references")

    def _compute(self, *, predictions: NDArray[np.int64], references: NDArray[np.int64]) -> dict[str, float]:
        return {"mean_absolute_error": mean_absolute_error(predictions, references)}
