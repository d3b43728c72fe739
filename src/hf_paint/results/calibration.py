"""Calibration: how often a model is right, by how confident it is (Guo et al., 2017, Section 2)."""

from dataclasses import dataclass
from typing import Self, TypedDict

import numpy as np
from numpy.typing import ArrayLike, NDArray


NUM_BINS = 15
"""Number of equal-width bins of confidence."""


def confidence_bins(confidences: ArrayLike, num_bins: int = NUM_BINS) -> NDArray[np.int64]:
    """Return the bin of each confidence in [0, 1], shape (num_images,); bin i covers (i / bins, (i + 1) / bins]."""
    confidence = np.asarray(confidences, dtype=np.float64)
    return np.clip(np.ceil(confidence * num_bins).astype(np.int64) - 1, 0, num_bins - 1)


class Bins(TypedDict):
    """A reliability diagram: see `Calibration`."""

    images: list[int]
    confidence: list[float]
    correct: list[int]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """Reliability diagram: counts by bin of confidence, each array of shape (15,).

    Attributes:
        images: Number of images in each bin.
        confidence: Sum of their confidences, i.e. of the probabilities of the predicted classes.
        correct: Number of these images that are classified correctly.
    """

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.int64]

    @classmethod
    def of(cls, confidences: ArrayLike, correct: ArrayLike) -> Self:
        """Count images by bin.

        Args:
            confidences: Probability of the predicted class of each image, shape (num_images,).
            correct: Whether the predicted class is right, shape (num_images,).
        """
        bins = confidence_bins(confidences)
        return cls(
            images=np.bincount(bins, minlength=NUM_BINS),
            confidence=np.bincount(bins, np.asarray(confidences, dtype=np.float64), NUM_BINS).astype(np.float64),
            correct=np.bincount(bins[np.asarray(correct, dtype=bool)], minlength=NUM_BINS),
        )

    @property
    def ece(self) -> float:
        """Expected calibration error, in [0, 1]."""
        return float(np.abs(self.confidence - self.correct).sum() / self.images.sum())

    def to_dict(self) -> dict[str, list[float]]:
        """Return the counts as JSON values."""
        return {name: getattr(self, name).tolist() for name in type(self).__slots__}

    @classmethod
    def from_dict(cls, values: Bins) -> Self:
        """Read the counts from JSON values.

        Raises:
            ValueError: If they cannot be counts.
        """
        images, correct = (np.array(values[name], dtype=np.int64) for name in ("images", "correct"))
        confidence = np.array(values["confidence"], dtype=np.float64)
        if not images.shape == correct.shape == confidence.shape == (NUM_BINS,) or not (correct >= 0).all():
            raise ValueError(f"a reliability diagram has {NUM_BINS} bins of counts")
        if not (correct <= images).all():
            raise ValueError("a bin has more correct images than images")
        return cls(images=images, confidence=confidence, correct=correct)
