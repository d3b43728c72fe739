"""Details of evaluations, in `details.jsonl`: calibration, confusion, and the best candidates of some of the images.

A report needs them beside the records of `results.jsonl`, and gets them without running a model. Does not need torch.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.results.alphas import alpha_to_json, format_alpha
from hf_paint.results.calibration import Calibration
from hf_paint.results.json_lines import append_line, drop_torn_line, read_lines
from hf_paint.results.packed_arrays import pack, unpack
from hf_paint.results.run_folder import DETAILS


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
                "file to do without it."
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
    def from_dict(cls, line: Json) -> Self:
        """Read details from the values of a line."""
        arrays, confusion, answers = unpack(line["arrays"]), None, None
        if "classes" in arrays:
            classes, predicted, images = (arrays[name] for name in ("classes", "predicted", "images"))
            confusion = Confusion(classes=classes.cumsum(), predicted=predicted, images=images)
        if "sample" in arrays:
            probabilities = (arrays["probabilities"].T / SCALE).astype(np.float32)
            answers = Answers(
                images=arrays["sample"].cumsum(), candidates=arrays["candidates"].T, probabilities=probabilities
            )
        return cls(calibration=Calibration.from_dict(line["bins"]), confusion=confusion, answers=answers)


class RunDetails:
    """The details of all exact evaluations of a run, read from its folder.

    Example:
        >>> from hf_paint.results.records import Result
        >>> details = RunDetails.of_run(tmp_path)  # the run of an earlier version has none
        >>> details.of(Result(alpha=0.0, task="mnist", role="patching", split="test", correct=9, total=10)) is None
        True
    """

    def __init__(self, lines: Mapping[Key, Json], path: Path) -> None:
        self._lines, self._path = lines, path

    @classmethod
    def of_run(cls, folder: str | Path) -> Self:
        """Read the details of a run; a folder without `details.jsonl` has none. Arrays are decoded when asked for.

        Raises:
            InputError: If a complete line is not a record.
        """
        path = Path(folder) / DETAILS
        return cls(dict(read_lines(path, _parse)) if path.exists() else {}, path)

    def of(self, result: "Result") -> Details | None:
        """Return the details of a record, or None if there are none.

        Args:
            result: Record of the run, from `AlphaCurve.get`. Records of the same weights under different alphas have
                the same details. A record of the output-space ensemble has its own.

        Raises:
            InputError: If the details are damaged.
        """
        if (line := self._lines.get(result.key)) is None:
            return None
        try:
            return Details.from_dict(line)
        except (ValueError, TypeError, KeyError) as error:
            what = f"{result.task} ({result.split}) at alpha {format_alpha(result.alpha)}"
            raise InputError(
                f"The details of {what} in {self._path} are damaged: {error}. Remove their line."
            ) from error


class DetailsLog:
    """Appends details to the `details.jsonl` of a run folder, each evaluation once.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / DETAILS
        self._known: set[Key] = set()
        if self._path.exists():
            drop_torn_line(self._path)
            self._known = {key for key, _ in read_lines(self._path, _parse)}

    def append(self, result: "Result", details: Details) -> None:
        """Add the details of a record, unless a killed process already has."""
        if result.key not in self._known:
            append_line(self._path, details.to_json(result), sync=False)  # without them, a record is still usable
            self._known.add(result.key)


def sample_images(counted: NDArray[np.int64]) -> NDArray[np.int64]:
    """Draw the images whose best candidates are recorded, always the same ones.

    Args:
        counted: Indices of the images that accuracy counts, shape (num_counted,).

    Returns:
        Indices of at most 2000 of them, in ascending order, shape (num_sampled,).
    """
    order = np.random.default_rng(0).permutation(len(counted))
    return np.sort(counted[order[:SAMPLE_SIZE]])


def _parse(text: str) -> tuple[Key, Json]:
    line = json.loads(text)
    return (*(line[name] for name in KEY), "exact"), {"bins": line["bins"], "arrays": line["arrays"]}
