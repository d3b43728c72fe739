"""Evaluation records: one per (weights, task, split), appended to `results.jsonl` immediately."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from math import isfinite
from pathlib import Path
from typing import Literal, Self

from hf_paint.documents.reading import parse_json
from hf_paint.documents.shapes import problem_of
from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, alpha_from_json, alpha_to_json, canonical, size
from hf_paint.results.details import KEY
from hf_paint.results.json_lines import read_lines
from hf_paint.results.record_checks import check_place, contradictions
from hf_paint.results.scores import TOLERANCE, Scores


Role = Literal["patching", "supported", "transfer", "shift"]
ROLES: tuple[Role, ...] = ("patching", "supported", "transfer", "shift")
UNBOUNDED = ("loss", "ece")
"""Metrics of a model that has diverged, which may be NaN."""
LARGEST = 1e6
"""No alpha is further from theta_0."""
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
        accuracy = self.accuracy if self.is_labelled else None
        record |= {"correct": self.correct, "total": self.total, "accuracy": accuracy}
        record |= {JSON_KEYS.get(f.name, f.name): getattr(self, f.name) for f in fields(self) if f.name not in record}
        return json.dumps(record)

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Read a record from one line of `results.jsonl`. Keys added by later versions are ignored.

        Raises:
            InputError: If it is not a record, or one that cannot be: types, ranges and counts are checked.
        """
        record = parse_json(line, "it")
        if not isinstance(record, dict):
            raise InputError("it is not a JSON object")
        values = {f.name: record[key] for f in fields(cls) if (key := JSON_KEYS.get(f.name, f.name)) in record}
        diverged = [name for name in UNBOUNDED if isinstance(values.get(name), float) and not isfinite(values[name])]
        if problem := problem_of(values | dict.fromkeys(diverged), cls):
            raise InputError(problem)
        result = cls(**values | {"alpha": alpha_from_json(values["alpha"])})
        result.check()
        accuracy = record.get("accuracy", result.accuracy)
        if accuracy is None and not result.is_labelled:
            return result
        if not isinstance(accuracy, (int, float)) or not abs(accuracy - result.accuracy) < TOLERANCE:
            raise InputError(f"`accuracy` is {accuracy!r}, but {result.correct} of {result.total} images are correct")
        return result

    def check(self) -> None:
        """Check that the record can be: its names, numbers and file.

        Raises:
            ValueError: If it cannot.
        """
        Scores.check(self)
        check_place(self.correct_file)
        if not self.task or not self.split:
            raise ValueError("`task` or `split` is empty")
        if size(self.alpha) > LARGEST:
            raise ValueError(f"`alpha` is {alpha_to_json(self.alpha)}")
        if self.drawn_from is not None and self.drawn_from < self.total:
            raise ValueError(f"`total` is {self.total}, drawn from {self.drawn_from} images")


def read_results(path: str | Path) -> list[Result]:
    """Read a `results.jsonl` file. An incomplete last line, left behind by a killed process, is ignored.

    Raises:
        InputError: If the file does not exist, or a complete line is not a record.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path} does not exist, so {path.parent} is not a run folder with records.")
    return read_lines(path, Result.from_json, contradictions)


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
