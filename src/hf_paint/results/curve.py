"""Alpha curve: accuracies on the path from theta_0 to theta_1, and selection of alpha (PAINT, Section 2)."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.results.alphas import Alpha, canonical, format_alpha, in_order
from hf_paint.results.bootstrap import paired_bootstrap_interval
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.entropies import select_by_entropy
from hf_paint.results.gains import Gain
from hf_paint.results.notebooks import curve_html, describe_curve
from hf_paint.results.record_checks import correct_images
from hf_paint.results.records import ROLES, Result, Role, columns_of, of_one_sample, read_results, roles_of
from hf_paint.results.run_files import RESULTS
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE, SelectionRule, Sides, select
from hf_paint.results.tables import FINE_TUNED, markdown


if TYPE_CHECKING:
    import pandas

    from hf_paint.results.plots.style import Plot

PlotKind = Literal["curve", "accuracy", "per_class", "scatter"]


class AlphaCurve:
    """Accuracy of every task at every alpha.

    Args:
        results: Records of a sweep. If there are several for the same (alpha, task, role, split), the last one is
            used, and exact records take precedence over inexact ones from an adaptive sweep. If some records of a
            (task, role, split) are of a sample and others of another sample or of all images, those that are like the
            last one are used.
        folder: Run folder with the per-image files that the records refer to.

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
        ordered = sorted(of_one_sample(results), key=lambda r: r.exact)
        self._results = {(r.alpha, r.role, r.task, r.split): r for r in ordered}
        self.folder: Path | None = Path(folder) if folder is not None else None
        self.alphas: tuple[Alpha, ...] = in_order(r.alpha for r in self.results)
        self.tasks: dict[Role, list[str]] = roles_of(self.results)
        self._columns, self._correct_0 = columns_of(self.results), dict[Result, NDArray[np.bool_] | None]()

    __repr__ = describe_curve
    _repr_html_ = curve_html

    @property
    def results(self) -> list[Result]:
        """Records, one per (alpha, role, task, split)."""
        return list(self._results.values())

    @property
    def exact_alphas(self) -> tuple[Alpha, ...]:
        """Alphas for which all images were evaluated."""
        inexact = {r.alpha for r in self.results if not r.exact}
        return tuple(alpha for alpha in self.alphas if alpha not in inexact)

    @classmethod
    def from_run(cls, folder: str | Path, *, name: str = RESULTS) -> Self:
        """Read the curve from a run folder. Set `name` to read another file of records, e.g. `ensemble.jsonl`."""
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
        """Create a curve from published accuracies in [0, 1], given as task -> one accuracy per alpha."""
        sides: dict[Role, Mapping[str, Sequence[float]]] = {"patching": patching, "supported": supported}
        return cls(
            _published(accuracy, alpha=alpha, task=task, role=role, split=split)
            for role, tasks in sides.items()
            for task, accuracies in tasks.items()
            for alpha, accuracy in zip(alphas, accuracies, strict=True)
        )

    def get(self, alpha: Alpha, role: Role, task: str, split: str) -> Result | None:
        """Return the record for this evaluation, or None if there is none."""
        return self._results.get((canonical(alpha), role, task, split))

    @property
    def reported_split(self) -> str:
        """Split to report accuracies on: `test`, or `validation` if no patching task has test records."""
        return "test" if "test" in self.splits("patching") else "validation"

    def splits(self, role: Role) -> set[str]:
        """Return the splits that tasks in this role were evaluated on."""
        return {split for found, split in self._columns if found == role}

    def mean_accuracy(self, alpha: Alpha, role: Role, split: str) -> Fraction:
        """Return the unweighted mean accuracy over the tasks in a role, as an exact fraction.

        The mean is always over the same tasks: those in the role that were evaluated on the split at any alpha.

        Raises:
            InputError: If there are no such tasks, or one of them has no record at this alpha.
        """
        results = {task: self.get(alpha, role, task, split) for task in self._columns.get((role, split), ())}
        accuracies = [result.exact_accuracy for result in results.values() if result is not None]
        if not results:
            raise InputError(f"No {role} task was evaluated on {split} at alpha {format_alpha(alpha)}.")
        if len(accuracies) < len(results):
            missing = next(task for task, result in results.items() if result is None)
            raise InputError(
                f"The {role} task '{missing}' was not evaluated on {split} at alpha {format_alpha(alpha)}, but was at "
                "other alphas, so their means cannot be compared. Evaluate it, or leave this alpha out."
            )
        return sum(accuracies, Fraction(0)) / len(accuracies)

    def points(self, split: str) -> tuple[Alpha, ...]:
        """Return the alphas with records for every patching and supported task that was evaluated on the split."""
        columns = [(role, task) for role in ROLES[:2] for task in self._columns.get((role, split), ())]
        return tuple(a for a in self.alphas if columns and all(self.get(a, *column, split) for column in columns))

    def select(
        self,
        rule: SelectionRule = DEFAULT_RULE,
        *,
        tolerance: float = DEFAULT_TOLERANCE,
        baseline: Fraction | None = None,
    ) -> Alpha:
        """Select alpha based on validation images.

        Args:
            rule: `supported_within` selects the highest patching accuracy among all alphas whose supported accuracy is
                at most `tolerance` below that of alpha 0. `mean` selects the highest mean of patching and supported
                accuracy, with equal weights regardless of the number of tasks (PAINT, Section 2). `entropy` selects
                the lowest mean entropy of predictions with the same weights, without labels.
            tolerance: Loss of supported accuracy that `supported_within` allows, as a fraction (0.01 is one point).
            baseline: Supported accuracy to measure the loss from, instead of that of alpha 0.

        Returns:
            The selected alpha; of ties, the smallest one, or that with the smallest sum of coefficients. If none is
            within the tolerance, which only happens with a `baseline`, that with the highest supported accuracy.

        Raises:
            InputError: If the rule is unknown, or if a required record is missing, e.g. that of one task at one alpha.
        """
        candidates = {r.alpha for r in self.results if r.split == "validation" and r.role in Sides._fields}
        alphas = [alpha for alpha in self.alphas if alpha in candidates or not candidates]
        if rule == "entropy":
            return select_by_entropy(self, alphas)
        return select({a: self.sides(a) for a in alphas}, rule, tolerance=tolerance, baseline=baseline)

    def sides(self, alpha: Alpha) -> Sides:
        """Return the exact mean validation accuracies on the patching and supported tasks."""
        return Sides(
            patching=self.mean_accuracy(alpha, "patching", "validation"),
            supported=self.mean_accuracy(alpha, "supported", "validation"),
        )

    def gains(self, alpha: Alpha, split: str = "test") -> list[Gain]:
        """Return the gain over alpha 0 on every task, with 95 % paired bootstrap intervals."""
        results = [self.get(alpha, role, task, split) for role in ROLES for task in self.tasks.get(role, [])]
        gains = [self.gain(result) for result in results if result is not None]
        return [gain for gain in gains if gain is not None]

    def gain(self, result: Result) -> Gain | None:
        """Return the gain of a record over alpha 0, or None if there is no record for alpha 0."""
        before = self.get(0.0, result.role, result.task, result.split)
        if before is None:
            return None
        low = high = None
        if before not in self._correct_0:  # each is compared with every alpha
            self._correct_0[before] = self.correct_images(before)
        correct_0, correct = self._correct_0[before], self.correct_images(result)
        if correct_0 is not None and correct is not None:
            low, high = paired_bootstrap_interval(correct_0, correct)
        gain = float(result.exact_accuracy - before.exact_accuracy)
        return Gain(task=result.task, role=result.role, split=result.split, gain=gain, low=low, high=high)

    def to_frame(self) -> "pandas.DataFrame":
        """Return a data frame with one row per record and the same column names as in `results.jsonl`."""
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
        """Return a Markdown table of accuracies in percent, with one row per alpha and one column per task.

        Numbers marked with `~` were inferred in part by an adaptive sweep. For counting tasks, the table also shows
        the mean absolute error. Tasks with misleading words on their images have an extra column for the attack
        success, i.e. the percentage of images that are misclassified as the word.

        Args:
            split: Split to show accuracies for.
            selected: Alpha whose row is set in bold.
            intervals: Also show the 95 % interval for the gain over alpha 0, in points.
            fine_tuned_label: Label for alpha 1.
        """
        selected = None if selected is None else canonical(selected)
        rows = curve_rows(self, split, selected=selected, intervals=intervals, fine_tuned_label=fine_tuned_label)
        return markdown(rows)

    def plot(self, kind: PlotKind = "curve", *, split: str | None = None) -> "Plot":
        """Return a plot, a matplotlib figure that shows itself in notebooks.

        The chosen alpha and the output-space ensemble are read from the run folder, if the curve has one.

        Args:
            kind: `curve` (patching against supported accuracy; PAINT, Figure 1), `accuracy` (one line per task),
                `per_class` (the classes that changed most) or `scatter` (accuracy under shift; WiSE-FT, Figure 1).
            split: Split to show accuracies on; by default, `reported_split` or, for a search, `validation`.

        Raises:
            InputError: If the curve does not have what the plot shows.
        """
        from hf_paint.results.plots.kinds import draw

        return draw(self, kind, split)

    def correct_images(self, result: Result) -> NDArray[np.bool_] | None:
        """Return whether each image was classified correctly, shape (result.total,); None without per-image data."""
        return None if self.folder is None else correct_images(self.folder, result)


def _published(accuracy: float, *, alpha: Alpha, task: str, role: Role, split: str) -> Result:
    """Return a record with the smallest counts that give exactly this accuracy."""
    count = Fraction(str(accuracy))
    return Result(alpha=alpha, task=task, role=role, split=split, correct=count.numerator, total=count.denominator)
