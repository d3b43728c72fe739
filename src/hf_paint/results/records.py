"""Evaluation records: one per (weights, task, split), appended to `results.jsonl` immediately."""

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.results.alphas import Alpha, alpha_from_json, alpha_to_json, canonical
from hf_paint.results.run_folder import RESULTS


Role = Literal["patching", "supported", "transfer", "shift"]
ROLES: tuple[Role, ...] = ("patching", "supported", "transfer", "shift")
JSON_KEYS = {"rows_fingerprint": "rows", "correct_file": "examples"}
"""Record attribute -> key in `results.jsonl`, for attributes whose key has a different name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Counts and metrics for a model on one split of one task.

    Attributes:
        correct: Number of images that are classified correctly; with several classes, as one of them.
        total: Number of images, without those that show no class of a multi-label task.
        attack_success: Number of images that are misclassified as the word written on them. None for tasks without
            such words.
        mean_per_class: Accuracy within each class, averaged over the classes that occur, in [0, 1].
        loss: Mean cross-entropy in nats.
        ece: Expected calibration error over 15 bins of equal width, in [0, 1].
        mean_absolute_error: Mean absolute error of the predicted counts, for counting tasks.
        mean_average_precision: Average precision of each class over all images, averaged over the classes that some
            but not all images have, in [0, 1], for multi-label tasks. These have no `mean_per_class`; their loss is
            the cross-entropy with a target spread evenly over the classes of an image.
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
    answer_types: Mapping[str, Sequence[int]] | None = field(default=None, hash=False)

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, `correct / total`."""
        return self.correct / self.total

    @property
    def exact_accuracy(self) -> Fraction:
        """Top-1 accuracy as an exact fraction, so equal accuracies compare as equal."""
        return Fraction(self.correct, self.total)

    @property
    def metrics(self) -> dict[str, float]:
        """Available metrics, as fractions of 1 except for the loss and the mean absolute error.

        Example:
            >>> Scores(correct=5, total=10, attack_success=4).metrics
            {'accuracy': 0.5, 'attack_success': 0.4}
        """
        metrics = {
            "accuracy": self.accuracy,
            "mean_per_class": self.mean_per_class,
            "loss": self.loss,
            "mean_absolute_error": self.mean_absolute_error,
            "mean_average_precision": self.mean_average_precision,
            "attack_success": None if self.attack_success is None else self.attack_success / self.total,
        }
        types = {f"accuracy_{kind}": right / total for kind, (right, total) in (self.answer_types or {}).items()}
        return {name: value for name, value in (metrics | types).items() if value is not None}

    def to_dict(self) -> dict[str, Any]:
        """Return a dict of all counts and metrics."""
        return {f.name: getattr(self, f.name) for f in fields(Scores)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result(Scores):
    """Record of what was evaluated, i.e. one model on one split of one task, and its scores.

    Attributes:
        alpha: Position of the weights between theta_0 (0) and theta_1 (1), or one coefficient per task. Stored in its
            canonical form (`canonical_alpha`).
        task: Name of the task.
        role: Role of the task. `patching` tasks are to be improved, `supported` tasks must not lose accuracy, and
            `transfer` and `shift` tasks are only measured.
        split: Split that was evaluated, `validation` or `test`.
        weights: Fingerprint of the image tower.
        head: Fingerprint of the zero-shot head, which depends on the text tower, class names and templates.
        data: Fingerprint of the images and their preprocessing.
        rows_fingerprint: Fingerprint of the data set rows. All corruptions of the same images share it.
        precision: Precision of the forward pass, `fp32` or `bf16`.
        exact: Whether all images were evaluated. An adaptive sweep only does this for a few alphas.
        correct_file: Path to an npy file with one boolean per image (whether it is classified correctly), relative to
            the run folder. None if there is no per-image data.
    """

    alpha: Alpha
    task: str
    role: Role
    split: str
    weights: str = ""
    head: str = ""
    data: str = ""
    rows_fingerprint: str = ""
    precision: str = "fp32"
    exact: bool = True
    correct_file: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", canonical(self.alpha))

    @property
    def key(self) -> tuple[str, ...]:
        """Key that identifies an evaluation. Two records with the same key have the same scores."""
        exactness = "exact" if self.exact else "adaptive"
        return (self.weights, self.task, self.role, self.split, self.head, self.data, self.precision, exactness)

    def to_json(self) -> str:
        """Return the record as one line of JSON, including the accuracy."""
        record: dict[str, object] = {
            "alpha": alpha_to_json(self.alpha),
            "task": self.task,
            "role": self.role,
            "split": self.split,
        }
        record |= {"correct": self.correct, "total": self.total, "accuracy": self.accuracy}
        record |= {JSON_KEYS.get(f.name, f.name): getattr(self, f.name) for f in fields(self) if f.name not in record}
        return json.dumps(record)

    @classmethod
    def from_json(cls, line: str) -> Self:
        """Read a record from one line of `results.jsonl`. Keys added by later versions are ignored."""
        record = json.loads(line)
        record["alpha"] = alpha_from_json(record["alpha"])
        keys = {f.name: JSON_KEYS.get(f.name, f.name) for f in fields(cls)}
        return cls(**{name: record[key] for name, key in keys.items() if key in record})


class ResultLog:
    """Append-only log of records, stored in the `results.jsonl` of a run folder.

    Separate files store whether each image was classified correctly.

    Args:
        folder: Run folder. If None, records are only kept in memory.
        write: Whether this process writes to disk. Other processes keep the same records in memory.
        name: File name of the log.

    Example:
        >>> log = ResultLog(tmp_path)
        >>> log.append(Result(alpha=0.0, task="mnist", role="patching", split="test", correct=9, total=10))
        >>> ResultLog(tmp_path).results[0].accuracy
        0.9
    """

    def __init__(self, folder: str | Path | None, *, write: bool = True, name: str = RESULTS) -> None:
        self.folder = Path(folder) if folder is not None else None
        self.write = write
        self.name = name
        self.results: list[Result] = []
        if self.folder is not None and (self.folder / name).exists():
            self.results = read_results(self.folder / name)
            if write:
                _drop_torn_line(self.folder / name)
        self._known: dict[tuple[str, ...], dict[Alpha, Result]] = {}
        for result in self.results:
            self._remember(result)

    def find(self, key: tuple[str, ...], alpha: Alpha | None = None) -> Result | None:
        """Return the record with this key, or None if there is no such record yet.

        Args:
            key: Key of the record (`Result.key`).
            alpha: If given, only return a record with this alpha. The same weights may be recorded under several
                alphas.
        """
        records = self._known.get(key, {})
        return next(iter(records.values()), None) if alpha is None else records.get(canonical(alpha))

    def append(self, result: Result, correct: NDArray[np.bool_] | None = None) -> None:
        """Add a record and flush it to disk.

        The per-image file is written first, so that a record never refers to a missing file.

        Args:
            result: Record to add.
            correct: Whether each image is classified correctly, shape (result.total,).
        """
        if self.write and self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            if correct is not None and result.correct_file is not None:
                save_atomically(self.folder / result.correct_file, lambda path: np.save(path, correct))
            with (self.folder / self.name).open("a", encoding="utf-8") as file:
                file.write(result.to_json() + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.results.append(result)
        self._remember(result)

    def _remember(self, result: Result) -> None:
        self._known.setdefault(result.key, {})[result.alpha] = result


def read_results(path: str | Path) -> list[Result]:
    """Read a `results.jsonl` file. An incomplete last line, left behind by a killed process, is ignored.

    Raises:
        InputError: If the file does not exist, or a complete line is not a record.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist, so {path.parent} is not a run folder with records.")
    *lines, _ = path.read_text(encoding="utf-8").split("\n")
    results = []
    for number, line in enumerate(lines, 1):
        try:
            results.append(Result.from_json(line))
        except (ValueError, TypeError, KeyError) as error:
            raise InputError(f"Line {number} of {path} is not a valid record: {error}") from error
    return results


def roles_of(results: Iterable[Result]) -> dict[Role, list[str]]:
    """Return role -> names of its tasks, in the order of their first record."""
    tasks: dict[Role, list[str]] = {}
    for result in results:
        names = tasks.setdefault(result.role, [])
        if result.task not in names:
            names.append(result.task)
    return tasks


def _drop_torn_line(path: Path) -> None:
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)
