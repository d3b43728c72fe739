"""The alpha curve: accuracies from theta_0 to theta_1, and the rules that choose alpha (PAINT, Sec. 2)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import Alpha, Coefficients, format_alpha, size
from hf_paint.results.bootstrap import paired_bootstrap_interval
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.records import ROLES, Result, Role, read_results, roles_of
from hf_paint.results.run_folder import RESULTS
from hf_paint.results.tables import FINE_TUNED, Interval, markdown


if TYPE_CHECKING:
    import pandas

SelectionRule = Literal["mean", "supported_within"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """What patching changed on one task: accuracy at alpha minus accuracy at alpha 0, as fractions of 1.

    `low` and `high` bound the 95 % paired bootstrap interval; they are None without per-example data.
    """

    task: str
    role: Role
    split: str
    gain: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> Interval | None:
        """The ends of the interval, or None."""
        return None if self.low is None or self.high is None else (self.low, self.high)


class AlphaCurve:
    """Accuracy of every task at every alpha.

    Args:
        results: The records of a sweep; of two records for one (alpha, task, role, split) the later counts, and an
            exact one before one of an adaptive sweep.
        folder: The run folder, where the per-example files named in the records are.

    Example:
        >>> curve = AlphaCurve.from_accuracies(
        ...     [0.0, 0.5, 1.0],
        ...     patching={"mnist": [0.48, 0.99, 0.996]},
        ...     supported={"cifar10": [0.898, 0.836, 0.414]},
        ... )
        >>> curve.select("mean")
        0.5
    """

    def __init__(self, results: Iterable[Result], *, folder: str | Path | None = None) -> None:
        ordered = sorted(results, key=lambda r: r.exact)
        self._results = {(r.alpha, r.role, r.task, r.split): r for r in ordered}
        self.folder = Path(folder) if folder is not None else None
        self.alphas: tuple[Alpha, ...] = _in_order(r.alpha for r in self.results)
        self.tasks: dict[Role, list[str]] = roles_of(self.results)

    @property
    def results(self) -> list[Result]:
        """The records, one per (alpha, role, task, split)."""
        return list(self._results.values())

    @property
    def exact_alphas(self) -> tuple[Alpha, ...]:
        """The alphas at which every image was evaluated."""
        inexact = {r.alpha for r in self.results if not r.exact}
        return tuple(alpha for alpha in self.alphas if alpha not in inexact)

    @classmethod
    def from_run(cls, folder: str | Path, *, name: str = RESULTS) -> Self:
        """Read the curve of a run folder; `ensemble.jsonl` holds that of the output-space ensemble."""
        return cls(read_results(Path(folder) / name), folder=folder)

    @classmethod
    def from_accuracies(
        cls,
        alphas: Sequence[float],
        *,
        patching: Mapping[str, Sequence[float]],
        supported: Mapping[str, Sequence[float]],
        split: str = "validation",
    ) -> Self:
        """Make a curve from published accuracies in [0, 1], each task with one value per alpha."""
        results = []
        roles: tuple[tuple[Role, Mapping[str, Sequence[float]]], ...] = (
            ("patching", patching),
            ("supported", supported),
        )
        for role, tasks in roles:
            for task, accuracies in tasks.items():
                for alpha, accuracy in zip(alphas, accuracies, strict=True):
                    count = Fraction(str(accuracy))
                    correct, total = count.numerator, count.denominator
                    results.append(
                        Result(alpha=alpha, task=task, role=role, split=split, correct=correct, total=total)
                    )
        return cls(results)

    def get(self, alpha: Alpha, role: Role, task: str, split: str) -> Result | None:
        """Return one record, or None."""
        return self._results.get((alpha, role, task, split))

    @property
    def reported_split(self) -> str:
        """The split whose accuracies are reported: `test`, or `validation` if no patching task has test records."""
        return "test" if "test" in self.splits("patching") else "validation"

    def splits(self, role: Role) -> set[str]:
        """Return the splits on which tasks of this role were evaluated."""
        return {r.split for r in self.results if r.role == role}

    def mean_accuracy(self, alpha: Alpha, role: Role, split: str) -> Fraction:
        """Return the unweighted mean over the tasks of a role, exactly.

        Raises:
            InputError: If no task of the role was evaluated there.
        """
        accuracies = [r.exact_accuracy for r in self.results if (r.alpha, r.role, r.split) == (alpha, role, split)]
        if not accuracies:
            raise InputError(f"No {role} task was evaluated on {split} at alpha {format_alpha(alpha)}.")
        return sum(accuracies, Fraction(0)) / len(accuracies)

    def points(self, split: str) -> tuple[Alpha, ...]:
        """Return the alphas at which every patching and supported task that has this split was evaluated on it."""
        columns = {(r.role, r.task) for r in self.results if r.split == split and r.role in ("patching", "supported")}
        return tuple(a for a in self.alphas if columns and all(self.get(a, *column, split) for column in columns))

    def select(
        self, rule: SelectionRule = "mean", *, tolerance: float = 0.01, baseline: Fraction | None = None
    ) -> Alpha:
        """Choose alpha on the validation records.

        Args:
            rule: `mean` takes the highest mean of patching and supported accuracy, which weigh the same however many
                tasks each has (PAINT). `supported_within` takes the highest patching accuracy among the alphas whose
                supported accuracy is at most `tolerance` below that of alpha 0.
            tolerance: The loss that `supported_within` accepts, as a fraction of 1: 0.01 is one point.
            baseline: The supported accuracy from which the loss is counted, instead of that of alpha 0.

        Returns:
            The alpha; of equally good ones the smallest, coefficients by their sum. Where nothing is within the
            tolerance, which takes a `baseline`, the one with the highest supported accuracy.

        Raises:
            InputError: If a record that the rule needs is missing.
        """
        if rule not in get_args(SelectionRule):
            raise InputError(f"Unknown selection rule '{rule}'.{did_you_mean(rule, get_args(SelectionRule))}")
        alphas = self.points("validation") or self.alphas
        patching = {a: self.mean_accuracy(a, "patching", "validation") for a in alphas}
        supported = {a: self.mean_accuracy(a, "supported", "validation") for a in alphas}
        if rule == "mean":
            return max(alphas, key=lambda a: (patching[a] + supported[a], -size(a)))
        if baseline is None and 0.0 not in supported:
            raise InputError("`supported_within` compares with alpha 0, which was not evaluated.")
        floor = (supported[0.0] if baseline is None else baseline) - Fraction(str(tolerance))
        within = [a for a in alphas if supported[a] >= floor]
        return max(within or [max(alphas, key=lambda a: supported[a])], key=lambda a: (patching[a], -size(a)))

    def gains(self, alpha: Alpha, split: str = "test") -> list[Gain]:
        """Return, task by task, what alpha gained over alpha 0, with 95 % paired bootstrap intervals."""
        results = [self.get(alpha, role, task, split) for role in ROLES for task in self.tasks.get(role, [])]
        gains = [self.gain(result) for result in results if result is not None]
        return [gain for gain in gains if gain is not None]

    def gain(self, result: Result) -> Gain | None:
        """Return what a record gained over that of alpha 0, or None if alpha 0 was not evaluated on its split."""
        before = self.get(0.0, result.role, result.task, result.split)
        if before is None:
            return None
        low = high = None
        correct_0, correct = self.correct_images(before), self.correct_images(result)
        if correct_0 is not None and correct is not None:
            low, high = paired_bootstrap_interval(correct_0, correct)
        gain = float(result.exact_accuracy - before.exact_accuracy)
        return Gain(task=result.task, role=result.role, split=result.split, gain=gain, low=low, high=high)

    def to_frame(self) -> "pandas.DataFrame":
        """Return one row per record, the columns named as in `results.jsonl`."""
        import json

        import pandas as pd

        return pd.DataFrame([json.loads(result.to_json()) for result in self.results])

    def to_markdown(
        self,
        split: str = "test",
        *,
        selected: Alpha | None = None,
        intervals: bool = False,
        fine_tuned_label: str = FINE_TUNED,
    ) -> str:
        """Return a Markdown table of accuracies in percent: one row per alpha, zero-shot first, one column per task.

        `~` marks a number that an adaptive sweep inferred in part. Where the classes are counts, the mean absolute
        error of the count stands beside the accuracy. Where wrong words are written on the images, a further column
        shows how many images are taken for the word, in percent of all.

        Args:
            split: The split whose accuracies are shown.
            selected: The alpha whose row is set in bold.
            intervals: Also show the 95 % interval of the gain over alpha 0, in points.
            fine_tuned_label: The name of alpha 1.
        """
        rows = curve_rows(self, split, selected=selected, intervals=intervals, fine_tuned_label=fine_tuned_label)
        return markdown(rows)

    def correct_images(self, result: Result) -> NDArray[np.bool_] | None:
        """Return whether each image of a record is right, shape (result.total,); None without per-image data."""
        if self.folder is None or result.correct_file is None:
            return None
        correct: NDArray[np.bool_] = np.load(self.folder / result.correct_file)
        return correct


def _in_order(alphas: Iterable[Alpha]) -> tuple[Alpha, ...]:
    """Return each alpha once: numbers by their size, then coefficients as they come."""
    found = list(dict.fromkeys(alphas))
    numbers = sorted(alpha for alpha in found if not isinstance(alpha, Coefficients))
    return (*numbers, *(alpha for alpha in found if isinstance(alpha, Coefficients)))
