"""Evaluation records: one per (weights, task, split), appended to `results.jsonl` immediately."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.results.alphas import Alpha, alpha_from_json, alpha_to_json, canonical
from hf_paint.results.details import KEY, Details, DetailsLog
from hf_paint.results.json_lines import append_line, drop_torn_line, read_lines
from hf_paint.results.run_folder import RESULTS
from hf_paint.results.scores import Scores


Role = Literal["patching", "supported", "transfer", "shift"]
ROLES: tuple[Role, ...] = ("patching", "supported", "transfer", "shift")
JSON_KEYS = {"rows_fingerprint": "rows", "correct_file": "examples"}
"""Record attribute -> key in `results.jsonl`, for attributes whose key has a different name."""


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
        drawn_from: Number of images in the split, without those that show no class, if the images are a sample of it.
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
    drawn_from: int | None = None
    precision: str = "fp32"
    exact: bool = True
    correct_file: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "alpha", canonical(self.alpha))

    @property
    def key(self) -> tuple[str, ...]:
        """Key that identifies an evaluation. Two records with the same key have the same scores."""
        return (*(getattr(self, name) for name in KEY), "exact" if self.exact else "adaptive")

    @property
    def sample(self) -> tuple[int, int] | None:
        """Number of images, and of those that they were drawn from. None for a whole split."""
        return None if self.drawn_from is None else (self.total, self.drawn_from)

    @property
    def num_images(self) -> str:
        """Number of images as text: `10000`, or `500 of 10,000` for a sample."""
        return str(self.total) if self.drawn_from is None else f"{self.total:,} of {self.drawn_from:,}"

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

    Separate files store whether each image was classified correctly, and the details of each exact record.

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
                drop_torn_line(self.folder / name)
        self._known: dict[tuple[str, ...], dict[Alpha, Result]] = {}
        self._samples: dict[tuple[str, ...], tuple[int, int] | None] = {}
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

    def is_current(self, result: Result) -> bool:
        """Return whether the last record of this task and split was measured on the same images as this one."""
        return self._samples[result.role, result.task, result.split] == result.sample

    @property
    def on_disk(self) -> bool:
        """Whether records are written to disk by this process."""
        return self.write and self.folder is not None

    @cached_property
    def _details(self) -> DetailsLog:
        return DetailsLog(self.folder or Path())

    def append(self, result: Result, correct: NDArray[np.bool_] | None = None, details: Details | None = None) -> None:
        """Add a record and flush it to disk.

        The record is written last, so that what belongs to a record is never missing.

        Args:
            result: Record to add.
            correct: Whether each image is classified correctly, shape (result.total,).
            details: Details of the evaluation.
        """
        if self.write and self.folder is not None:
            if correct is not None and result.correct_file is not None:
                save_atomically(self.folder / result.correct_file, lambda path: np.save(path, correct))
            if details is not None:
                self._details.append(result, details)
            append_line(self.folder / self.name, result.to_json())
        self.results.append(result)
        self._remember(result)

    def _remember(self, result: Result) -> None:
        self._known.setdefault(result.key, {})[result.alpha] = result
        self._samples[result.role, result.task, result.split] = result.sample


def read_results(path: str | Path) -> list[Result]:
    """Read a `results.jsonl` file. An incomplete last line, left behind by a killed process, is ignored.

    Raises:
        InputError: If the file does not exist, or a complete line is not a record.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist, so {path.parent} is not a run folder with records.")
    return read_lines(path, Result.from_json)


def of_one_sample(results: Iterable[Result]) -> list[Result]:
    """Return the records of the images that the last record of each (role, task, split) was measured on."""
    listed = list(results)
    last = {(r.role, r.task, r.split): r.sample for r in listed}
    return [r for r in listed if r.sample == last[r.role, r.task, r.split]]


def roles_of(results: Iterable[Result]) -> dict[Role, list[str]]:
    """Return role -> names of its tasks, in the order of their first record."""
    tasks: dict[Role, list[str]] = {}
    for result in results:
        names = tasks.setdefault(result.role, [])
        if result.task not in names:
            names.append(result.task)
    return tasks


def columns_of(results: Iterable[Result]) -> dict[tuple[Role, str], list[str]]:
    """Return (role, split) -> names of the tasks with records there, in the order of their first record."""
    columns: dict[tuple[Role, str], dict[str, None]] = {}
    for result in results:
        columns.setdefault((result.role, result.split), {})[result.task] = None
    return {column: list(tasks) for column, tasks in columns.items()}
