"""Scores: counts and metrics of a model on one split of one task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from math import nan
from typing import Any

from hf_paint.errors import InputError


TOLERANCE = 1e-6
"""Rounding error of a metric."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Counts and metrics for a model on one split of one task.

    Attributes:
        correct: Number of images that are classified correctly; with several classes, as one of them.
        total: Number of images, without those that show no class of a multi-label task; 0 for an unlabelled split.
        attack_success: Number of images that are misclassified as the word written on them. None for tasks without
            such words.
        mean_per_class: Accuracy within each class, averaged over the classes that occur, in [0, 1].
        loss: Mean cross-entropy in nats.
        ece: Expected calibration error over 15 bins of equal width, in [0, 1].
        mean_absolute_error: Mean absolute error of the predicted counts, for counting tasks.
        mean_average_precision: Average precision of each class over all images, averaged over the classes that some
            but not all images have, in [0, 1], for multi-label tasks. These have no `mean_per_class`; their loss is
            the cross-entropy with a target spread evenly over the classes of an image.
        relative_entropy: Mean entropy of the predicted probabilities as a fraction of the largest one, log(number of
            classes or answers), in [0, 1]; needs no labels. None for multi-label tasks.
        answer_types: Answer type -> [correct, total], for multiple-choice tasks.
    """

    correct: int
    total: int
    attack_success: int | None = None
    mean_per_class: float | None = None
    loss: float | None = None
    ece: float | None = None
    mean_absolute_error: float | None = None
    mean_average_precision: float | None = None
    relative_entropy: float | None = None
    answer_types: Mapping[str, Sequence[int]] | None = field(default=None, hash=False)

    @property
    def is_labelled(self) -> bool:
        """Whether there are labels, so that there is an accuracy."""
        return self.total > 0

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, `correct / total`; NaN without labels."""
        return self.correct / self.total if self.is_labelled else nan

    @property
    def exact_accuracy(self) -> Fraction:
        """Top-1 accuracy as an exact fraction, so equal accuracies compare as equal.

        Raises:
            InputError: If there are no labels.
        """
        if not self.is_labelled:
            raise InputError("Images without labels have no accuracy. Use `selection: entropy`, or label them.")
        return Fraction(self.correct, self.total)

    @property
    def metrics(self) -> dict[str, float]:
        """Available metrics, as fractions of 1 except for the loss and the mean absolute error.

        Example:
            >>> Scores(correct=5, total=10, attack_success=4).metrics
            {'accuracy': 0.5, 'attack_success': 0.4}
        """
        metrics = {
            "accuracy": self.accuracy if self.is_labelled else None,
            "mean_per_class": self.mean_per_class,
            "loss": self.loss,
            "mean_absolute_error": self.mean_absolute_error,
            "mean_average_precision": self.mean_average_precision,
            "attack_success": None if self.attack_success is None else self.attack_success / self.total,
        }
        types = {f"accuracy_{kind}": right / total for kind, (right, total) in (self.answer_types or {}).items()}
        return {name: value for name, value in (metrics | types).items() if value is not None}

    def check(self) -> None:
        """Check that the counts and metrics are possible.

        Raises:
            ValueError: If, for instance, more images are correct than there are.
        """
        counts = {"correct": self.correct, "attack_success": self.attack_success}
        if self.total == self.correct == 0 and self.relative_entropy is not None:  # an unlabelled split
            counts = {"attack_success": self.attack_success}
        parts = {f"answer_types.{kind}": tuple(pair) for kind, pair in (self.answer_types or {}).items()}
        of_total = {name: (count, self.total) for name, count in counts.items() if count is not None}
        for name, pair in {**of_total, **parts}.items():
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1] <= self.total or not pair[1]:
                raise ValueError(f"`{name}` is {' of '.join(map(str, pair))} images")
        for name in ("mean_per_class", "mean_average_precision", "relative_entropy"):
            if not -TOLERANCE <= (getattr(self, name) or 0) <= 1 + TOLERANCE:
                raise ValueError(f"`{name}` is {getattr(self, name)}, which is not from 0 to 1")
        for name in ("ece", "loss", "mean_absolute_error"):
            if (getattr(self, name) or 0) < -TOLERANCE:
                raise ValueError(f"`{name}` is {getattr(self, name)}, which is below 0")

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of all counts and metrics."""
        return {f.name: getattr(self, f.name) for f in fields(Scores)}
