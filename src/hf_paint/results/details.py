"""Details of evaluations, in `details.jsonl`: calibration, confusion, and the best candidates of some of the images.

A report needs them beside the records of `results.jsonl`, and gets them without running a model. Does not need torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.results.alphas import alpha_to_json
from hf_paint.results.calibration import Bins, Calibration
from hf_paint.results.packed_arrays import PackedArray, pack, unpack
from hf_paint.results.run_files import DETAILS


if TYPE_CHECKING:
    from hf_paint.results.records import Result


SAMPLE_SIZE = 2000
"""Maximum number of images of a split whose best candidates are recorded."""
NUM_CANDIDATES = 3
"""Number of candidates that are recorded for an image, starting with the most probable one."""
SCALE = 2**16 - 1
"""Probabilities are stored in steps of 1 / SCALE."""
MISSING = -1
"""Candidate of an image that has fewer."""
KEY = ("weights", "task", "role", "split", "head", "data", "precision")
"""Attributes of a record that identify its evaluation."""

Key = tuple[str, ...]
Counts = tuple[int, int]
"""Numbers of images and of those that are classified correctly."""


class Line(TypedDict):
    """A line of `details.jsonl`: the key of a record, the bins, and packed arrays (see `pack`)."""

    weights: str
    task: str
    role: str
    split: str
    head: str
    data: str
    precision: str
    bins: Bins
    arrays: dict[str, PackedArray]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Confusion:
    """Confusion matrix of the images that accuracy counts, without its zeros. Each array has shape (num_entries,).

    An image of a multi-label task counts once, as the first of its classes; if any of its classes is predicted, as
    correct. So the images of a class are the same ones for all weights, and the diagonal holds what accuracy counts.

    Attributes:
        classes: Index of the class of the images, in ascending order.
        predicted: Index of the class predicted for them.
        images: Number of these images.
    """

    classes: NDArray[np.int64]
    predicted: NDArray[np.int64]
    images: NDArray[np.int64]

    @classmethod
    def of(cls, references: NDArray[np.int64], predicted: NDArray[np.int64]) -> Self:
        """Count pairs of a class and a predicted class, both of shape (num_images,)."""
        width = int(predicted.max(initial=0)) + 1
        pairs, images = np.unique(references * width + predicted, return_counts=True)
        return cls(classes=pairs // width, predicted=pairs % width, images=images)

    @property
    def counts(self) -> Counts:
        """Numbers of images and of those that are classified correctly."""
        return int(self.images.sum()), int(self.images[self.classes == self.predicted].sum())

    def total(self, num_classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class, shape (num_classes,)."""
        return self._counts(np.ones_like(self.classes, dtype=np.bool_), num_classes)

    def correct(self, num_classes: int) -> NDArray[np.int64]:
        """Return the number of correctly classified images of each class, shape (num_classes,)."""
        return self._counts(self.classes == self.predicted, num_classes)

    def _counts(self, chosen: NDArray[np.bool_], num_classes: int) -> NDArray[np.int64]:
        """Return the number of images of each class in the chosen entries.

        Raises:
            InputError: If an entry is of another class.
        """
        both = np.concatenate([self.classes, self.predicted])
        if both.min(initial=0) < 0 or both.max(initial=-1) >= num_classes:
            raise InputError(
                f"{DETAILS} counts images of class {both.max()}, but the task has {num_classes} classes. Remove this "
                "file, and run the same `hf-paint patch` again."
            )
        return np.bincount(self.classes[chosen], self.images[chosen], num_classes).astype(np.int64)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """The best candidates of a fixed sample of the images of a split: the same images for all weights.

    Attributes:
        images: Index in the split of each sampled image, in ascending order, shape (num_sampled,).
        candidates: Index of the class or candidate answer, the most probable one first, shape (num_sampled, up to 3).
            -1 if an image has fewer candidates.
        probabilities: Their probabilities, shape (num_sampled, up to 3). In a file, they are rounded to 1 / 65535.
    """

    images: NDArray[np.int64]
    candidates: NDArray[np.int64]
    probabilities: NDArray[np.float32]

    def of(self, image: int) -> list[tuple[int, float]] | None:
        """Return the best candidates of an image and their probabilities, best first; None if it was not sampled."""
        row = int(np.searchsorted(self.images, image))
        if row == len(self.images) or self.images[row] != image:
            return None
        pairs = zip(self.candidates[row].tolist(), self.probabilities[row].tolist(), strict=True)
        return [(candidate, probability) for candidate, probability in pairs if candidate != MISSING]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Details:
    """What is recorded of an exact evaluation beside its scores.

    Attributes:
        calibration: Reliability diagram of the images that accuracy counts.
        confusion: Confusion matrix. None for multiple choice, where each image has its own candidates.
        answers: Best candidates of some images, on the split that the task is reported on: `test`, or `validation` if
            the task has no test images. None on other splits.
    """

    calibration: Calibration
    confusion: Confusion | None
    answers: Answers | None

    @property
    def counts(self) -> Counts:
        """Numbers of images and of those that are classified correctly."""
        return int(self.calibration.images.sum()), int(self.calibration.correct.sum())

    def to_json(self, result: "Result") -> str:
        """Return the details of a record as one line of JSON.

        It has the keys of the record, the bins as lists, and packed arrays (see `pack`).
        """
        line: dict[str, object] = {"alpha": alpha_to_json(result.alpha)}
        line |= {name: getattr(result, name) for name in KEY}
        line |= {"bins": self.calibration.to_dict(), "arrays": pack(self._arrays())}
        return json.dumps(line)

    def _arrays(self) -> dict[str, NDArray[np.int64]]:
        """Return the arrays to store: sorted ones as differences, which compress well."""
        arrays: dict[str, NDArray[np.int64]] = {}
        if (confusion := self.confusion) is not None:
            arrays |= {"classes": np.diff(confusion.classes, prepend=0), "predicted": confusion.predicted}
            arrays |= {"images": confusion.images}
        if (answers := self.answers) is not None:
            arrays |= {"sample": np.diff(answers.images, prepend=0), "candidates": answers.candidates.T}
            arrays |= {"probabilities": np.rint(answers.probabilities.T * SCALE).astype(np.int64)}
        return arrays

    @classmethod
    def from_dict(cls, line: Line) -> Self:
        """Read details from the values of a line.

        Raises:
            ValueError: If they are damaged.
        """
        arrays, confusion, answers = unpack(line["arrays"]), None, None
        for names in (("classes", "predicted", "images"), ("sample", "candidates", "probabilities")):
            _check_lengths([arrays[name] for name in names if name in arrays], len(names))
        if "classes" in arrays:
            classes, predicted, images = (arrays[name] for name in ("classes", "predicted", "images"))
            confusion = Confusion(classes=classes.cumsum(), predicted=predicted, images=images)
        if "sample" in arrays:
            probabilities = (arrays["probabilities"].T / SCALE).astype(np.float32)
            answers = Answers(
                images=arrays["sample"].cumsum(), candidates=arrays["candidates"].T, probabilities=probabilities
            )
        details = cls(calibration=Calibration.from_dict(line["bins"]), confusion=confusion, answers=answers)
        if confusion is not None and details.counts != confusion.counts:
            raise ValueError("the confusion matrix and the bins count other images")
        return details


def _check_lengths(arrays: Sequence[NDArray[np.int64]], number: int) -> None:
    """Check that arrays that belong together, if any, are there, are not negative, and have as many columns."""
    lengths = {array.shape[-1] if array.ndim else -1 for array in arrays}
    shapes = {array.shape for array in arrays if array.ndim > 1}
    if arrays and (
        len(arrays) != number or len(lengths) > 1 or len(shapes) > 1 or min(a.min(initial=0) for a in arrays) < MISSING
    ):
        raise ValueError("its arrays do not belong together")


def sample_images(counted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw the images whose best candidates are recorded, always the same ones.

    Args:
        counted: Indices of the images that accuracy counts, shape (num_counted,).

    Returns:
        Indices of at most 2000 of them, in ascending order, shape (num_sampled,).
    """
    order = np.random.default_rng(0).permutation(len(counted))
    return np.sort(counted[order[:SAMPLE_SIZE]])
