"""Effective and relative robustness under distribution shift (Taori et al., 2020; Wortsman et al., CVPR 2022)."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hf_paint.errors import InputError


@dataclass(frozen=True, slots=True)
class Baseline:
    """Expected accuracy under shift for a given reference accuracy, as a linear function between their logits.

    Attributes:
        slope: Slope of the line.
        intercept: Intercept of the line, in logits.
    """

    slope: float
    intercept: float

    def __call__(self, reference: ArrayLike) -> NDArray[np.float64]:
        """Return beta(reference), the predicted accuracies under shift, in [0, 1]."""
        return expit(self.slope * logit(reference) + self.intercept)


def logit(accuracy: ArrayLike) -> NDArray[np.float64]:
    """Return `log(p / (1 - p))` for accuracies in [0, 1]. It is infinite at 0 and 1."""
    p = np.asarray(accuracy, dtype=np.float64)
    with np.errstate(divide="ignore"):
        return np.log(p) - np.log1p(-p)


def expit(logits: ArrayLike) -> NDArray[np.float64]:
    """Return `1 / (1 + exp(-x))`, the inverse of `logit`."""
    return np.exp(-np.logaddexp(0, -np.asarray(logits, dtype=np.float64)))


def fit_baseline(accuracies: Iterable[tuple[float, float]]) -> Baseline:
    """Fit the baseline by least squares between logits (Taori et al., 2020, Section 2).

    Args:
        accuracies: (reference accuracy, accuracy under shift) in (0, 1), for two or more models that were trained only
            on the reference distribution.

    Returns:
        Function from reference accuracies to predicted accuracies under shift, both in [0, 1].

    Raises:
        InputError: If there are fewer than two distinct reference accuracies, or if an accuracy is not in (0, 1).

    Example:
        >>> float(fit_baseline([(0.6, 0.4), (0.8, 0.7)])(0.6).round(6))
        0.4
    """
    pairs = np.array([*accuracies], dtype=np.float64).reshape(-1, 2)  # (num_models, 2)
    if not ((pairs > 0) & (pairs < 1)).all():
        raise InputError("Baseline accuracies must be above 0 and below 1, because the fit uses their logits.")
    if len(np.unique(pairs[:, 0])) < 2:
        raise InputError("A baseline requires at least two models with different reference accuracies.")
    slope, intercept = np.polyfit(logit(pairs[:, 0]), logit(pairs[:, 1]), deg=1)
    return Baseline(float(slope), float(intercept))


def effective_robustness(reference: float, shift: float, baseline: Baseline) -> float:
    """Return `shift - beta(reference)`, the accuracy under shift beyond the baseline (Taori et al., 2020, Section 2).

    Args:
        reference: Reference accuracy, in [0, 1].
        shift: Accuracy under shift, in [0, 1].
        baseline: Baseline from `fit_baseline`.

    Example:
        >>> round(effective_robustness(0.6, 0.55, fit_baseline([(0.6, 0.4), (0.8, 0.7)])), 6)
        0.15
    """
    return shift - float(baseline(reference))


def relative_robustness(shift: float, shift_0: float) -> float:
    """Return `shift - shift_0`, the effect of an intervention under shift (Taori et al., 2020, Section 2).

    Args:
        shift: Accuracy under shift with the intervention, in [0, 1].
        shift_0: Accuracy under shift without the intervention, e.g. for the zero-shot or the fine-tuned model.

    Example:
        >>> relative_robustness(0.75, 0.5)
        0.25
    """
    return shift - shift_0
