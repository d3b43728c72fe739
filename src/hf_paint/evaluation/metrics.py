"""Metrics of a classifier: pure functions over arrays, and the same as `evaluate.Metric`s that work offline."""

from typing import Any

import datasets
import evaluate
import numpy as np
from numpy.typing import ArrayLike, NDArray


NUM_BINS = 15
"""Bins of the calibration error, of equal width (Guo et al., 2017)."""


def accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the share of predictions (num_images,) that equal the references (num_images,).

    Example:
        >>> accuracy([0, 1, 1, 1], [0, 1, 0, 1])
        0.75
    """
    return float(np.mean(np.asarray(predictions) == np.asarray(references)))


def mean_per_class_accuracy(predictions: ArrayLike, references: ArrayLike) -> float:
    """Return the mean over the classes among the references of the accuracy within the class.

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
    """Return the mean distance of predicted numbers (num_images,) from the right ones (num_images,).

    Example:
        >>> mean_absolute_error([3, 5, 9], [3, 6, 7])
        1.0
    """
    return float(np.mean(np.abs(np.asarray(predictions) - np.asarray(references))))


def cross_entropy(log_probabilities: ArrayLike, references: ArrayLike) -> float:
    """Return the mean cross-entropy in nats.

    Args:
        log_probabilities: shape (num_images, num_classes), each row the log of a distribution.
        references: shape (num_images,), class indices.
    """
    rows = np.asarray(log_probabilities, dtype=np.float64)
    return float(-np.mean(rows[np.arange(len(rows)), np.asarray(references)]))


def expected_calibration_error(confidences: ArrayLike, correct: ArrayLike, *, num_bins: int = NUM_BINS) -> float:
    """Return the mean gap between confidence and accuracy, over bins of equal width (Guo et al., 2017, Section 2).

    Args:
        confidences: shape (num_images,), the highest probability of each image, in [0, 1].
        correct: shape (num_images,), whether the class of that probability is the label.
        num_bins: Bins (i / num_bins, (i + 1) / num_bins].

    Example:
        >>> expected_calibration_error([0.9, 0.9], [True, False])
        0.4
    """
    confidence = np.asarray(confidences, dtype=np.float64)
    bins = np.clip(np.ceil(confidence * num_bins).astype(int) - 1, 0, num_bins - 1)
    gaps = np.bincount(bins, weights=confidence - np.asarray(correct, dtype=np.float64), minlength=num_bins)
    return float(np.abs(gaps).sum() / len(confidence))


class Accuracy(evaluate.Metric):
    """Top-1 accuracy.

    Example:
        >>> Accuracy().compute(predictions=[0, 1], references=[0, 0])
        {'accuracy': 0.5}
    """

    def _info(self) -> evaluate.MetricInfo:
        return _describe("Share of images whose predicted class is the label.", predictions="int64")

    def _compute(self, *, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"accuracy": accuracy(predictions, references)}


class MeanPerClassAccuracy(evaluate.Metric):
    """Mean over the classes of the accuracy within the class."""

    def _info(self) -> evaluate.MetricInfo:
        return _describe("Mean over the classes of the accuracy within the class.", predictions="int64")

    def _compute(self, *, predictions: list[int], references: list[int]) -> dict[str, float]:
        return {"mean_per_class_accuracy": mean_per_class_accuracy(predictions, references)}


class CrossEntropy(evaluate.Metric):
    """Mean cross-entropy in nats of log-probabilities (num_images, num_classes)."""

    def _info(self) -> evaluate.MetricInfo:
        return _describe("Mean negative log-probability of the label.", log_probabilities=["float64"])

    def _compute(self, *, log_probabilities: list[list[float]], references: list[int]) -> dict[str, float]:
        return {"cross_entropy": cross_entropy(log_probabilities, references)}


class ExpectedCalibrationError(evaluate.Metric):
    """Expected calibration error over 15 bins of equal width."""

    def _info(self) -> evaluate.MetricInfo:
        return _describe(
            "Mean gap between confidence and accuracy over bins of confidence.",
            predictions="int64",
            confidences="float64",
        )

    def _compute(self, *, predictions: list[int], confidences: list[float], references: list[int]) -> dict[str, float]:
        correct: NDArray[np.bool_] = np.asarray(predictions) == np.asarray(references)
        return {"expected_calibration_error": expected_calibration_error(confidences, correct)}


def _describe(description: str, **inputs: Any) -> evaluate.MetricInfo:
    features = {
        name: datasets.Sequence(datasets.Value(kind[0])) if isinstance(kind, list) else datasets.Value(kind)
        for name, kind in inputs.items()
    }
    return evaluate.MetricInfo(
        description=description,
        citation="",
        inputs_description=f"Arrays of one row per image: {', '.join(inputs)} and references (class indices).",
        features=datasets.Features(features | {"references": datasets.Value("int64")}),
    )
