"""Compute robustness under distribution shift along an alpha curve, and export it as JSON and Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from hf_paint.documents.reading import Json, parse_yaml, read_yaml
from hf_paint.documents.shapes import problem_of
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.files import expand
from hf_paint.results.alphas import Alpha, alpha_from_json, alpha_to_json, format_alpha
from hf_paint.results.bootstrap import NUM_RESAMPLES
from hf_paint.results.records import ROLES, Result
from hf_paint.results.robustness import Baseline, effective_robustness, fit_baseline, relative_robustness
from hf_paint.results.stored import AGAIN
from hf_paint.results.tables import Interval, bold, markdown, marked, percent, points


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve


Pair = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessRow:
    """Robustness at one alpha. Accuracies and differences are fractions of 1.

    Attributes:
        alpha: Alpha of the model.
        reference: Mean accuracy over the reference tasks.
        shift: Mean accuracy over the shift tasks.
        relative: `shift` minus `shift` at alpha 0.
        effective: `shift` minus the value that the baseline predicts from `reference`. None without a baseline.
        relative_interval: 95 % bootstrap interval for `relative`. None without per-image data.
        effective_interval: 95 % bootstrap interval for `effective`, with the baseline treated as known.
        exact: Whether all images were evaluated. False if an adaptive sweep inferred some predictions.
    """

    alpha: Alpha
    reference: float
    shift: float
    relative: float
    effective: float | None = None
    relative_interval: Interval | None = None
    effective_interval: Interval | None = None
    exact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RobustnessTable:
    """Robustness at every alpha.

    Attributes:
        rows: One row per alpha.
        reference_tasks: Tasks whose mean accuracy is the reference accuracy.
        reference_split: Split used for the reference tasks. Shift tasks are always evaluated on `test`.
        shift_tasks: Tasks under distribution shift.
        baseline: Baseline that predicts accuracy under shift from reference accuracy, if any.
    """

    rows: Sequence[RobustnessRow]
    reference_tasks: Sequence[str]
    reference_split: str
    shift_tasks: Sequence[str]
    baseline: Baseline | None = None

    def to_dict(self) -> Json:
        """Convert the table to plain values, as stored in `robustness.json`."""
        rows = [asdict(row) | {"alpha": alpha_to_json(row.alpha)} for row in self.rows]
        return asdict(self) | {"rows": rows}

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """Create a table from values returned by `to_dict`.

        Raises:
            InputError: If the values have another shape.
        """
        if problem := problem_of(values, cls):
            raise InputError(f"The stored table of robustness is damaged: {problem}. {AGAIN}")
        rows = [
            RobustnessRow(**{**_known(RobustnessRow, row), "alpha": alpha_from_json(row["alpha"])})
            for row in values["rows"]
        ]
        baseline = Baseline(**_known(Baseline, values["baseline"])) if values.get("baseline") else None
        return cls(**_known(cls, values) | {"rows": rows, "baseline": baseline})

    def to_markdown(self, *, selected: Alpha | None = None) -> str:
        """Return the rows of this table as Markdown; see `shown_rows`."""
        return markdown(self.shown_rows(selected=selected))

    def shown_rows(self, *, selected: Alpha | None = None) -> list[list[str]]:
        """Return a table in percent and points with 95 % intervals, with the `selected` alpha in bold.

        Numbers marked with `~` were inferred in part by an adaptive sweep.
        """
        header = ["alpha", "reference", "mean of shifts", "relative robustness"]
        rows = [[*header, "effective robustness"] if self.baseline else header]
        for row in self.rows:
            cells = [percent(row.reference), percent(row.shift), points(row.relative, row.relative_interval)]
            if row.effective is not None:
                cells.append(points(row.effective, row.effective_interval))
            cells = [format_alpha(row.alpha), *(marked(cell, exact=row.exact) for cell in cells)]
            rows.append(bold(cells) if row.alpha == selected else cells)
        return rows


def robustness_table(
    curve: "AlphaCurve",
    *,
    reference: str | None = None,
    baseline: Baseline | Iterable[Pair] | None = None,
) -> RobustnessTable:
    """Compute effective and relative robustness at every alpha (Taori et al., 2020; WiSE-FT, Section 2).

    Intervals are computed from the run's per-image files by bootstrapping. The images of each data set are resampled;
    tasks with the same images, e.g. corruptions of the reference task, are resampled together.

    Args:
        curve: Curve with shift tasks.
        reference: Task that the shift tasks are compared with. Defaults to the mean over all patching tasks with test
            images or, if there are none, over those with validation images.
        baseline: Baseline from `fit_baseline`, or (reference, shift) accuracies to fit one to.

    Returns:
        One row per alpha, in fractions of 1.

    Raises:
        InputError: If there are no shift tasks, reference task or alpha 0, or the baseline cannot be fitted.

    Example:
        >>> counts = [(0.0, "patching", 60), (0.0, "shift", 40), (1.0, "patching", 80), (1.0, "shift", 55)]
        >>> records = [Result(alpha=a, task=r, role=r, split="test", correct=n, total=100) for a, r, n in counts]
        >>> table = robustness_table(AlphaCurve(records), baseline=[(0.6, 0.4), (0.8, 0.7)])
        >>> [(row.alpha, round(row.relative, 6), round(row.effective, 6)) for row in table.rows]
        [(0.0, 0.0, 0.0), (1.0, 0.15, -0.15)]
    """
    shift_tasks = curve.tasks.get("shift", [])
    if not shift_tasks:
        raise InputError("Robustness needs shift tasks, but the curve has none. Add tasks to `shift_tasks`.")
    candidates = _reference_tasks(curve, reference)
    split = "test" if any(_on(curve, 0.0, candidates, "test")) else "validation"
    reference_tasks = [task for task in candidates if any(_on(curve, 0.0, [task], split))]
    line = baseline if isinstance(baseline, Baseline) or baseline is None else fit_baseline(baseline)
    before = _on(curve, 0.0, shift_tasks, "test")
    rows = []
    for alpha in curve.alphas:
        sides = [_on(curve, alpha, reference_tasks, split), _on(curve, alpha, shift_tasks, "test"), before]
        if reference_tasks and all(result is not None for side in sides for result in side):
            rows.append(_row(curve, alpha, [[r for r in side if r is not None] for side in sides], line))
    if not rows:
        tasks = ", ".join([*candidates, *shift_tasks])
        raise InputError(f"No alpha has records for all of {tasks}, or alpha 0 lacks some of them.")
    return RobustnessTable(
        rows=rows, reference_tasks=reference_tasks, reference_split=split, shift_tasks=shift_tasks, baseline=line
    )


def read_baseline(entries: Sequence[str | Sequence[float]]) -> tuple[Pair, ...]:
    """Read the `baseline` of a recipe: a list of (reference, shift) pairs, or a YAML or JSON file that contains one.

    Raises:
        InputError: If the file cannot be read, or if an entry is not a pair of numbers.
    """
    try:
        read = [parse_yaml(entry, "An entry") if isinstance(entry, str) else entry for entry in entries]
        is_file = len(read) == 1 and isinstance(read[0], str)
        pairs: object = read_yaml(expand(str(read[0])), f"The file {read[0]}") if is_file else read
        if not isinstance(pairs, list):
            raise TypeError("it is no list")
        return tuple((float(reference), float(shift)) for reference, shift in pairs)
    except (OSError, TypeError, ValueError) as error:
        raise InputError(
            "`baseline` must be a list of [reference, shift] accuracies, e.g. [[0.60, 0.40], [0.80, 0.70]], or a YAML "
            f"or JSON file with such a list; got {' '.join(map(str, entries))}: {one_line(error)}"
        ) from error


def _reference_tasks(curve: "AlphaCurve", reference: str | None) -> list[str]:
    if reference is None:
        return curve.tasks.get("patching", [])
    known = [task for tasks in curve.tasks.values() for task in tasks]
    if reference not in known:
        raise InputError(f"The curve has no task '{reference}'.{did_you_mean(reference, known)}")
    return [reference]


def _on(curve: "AlphaCurve", alpha: Alpha, tasks: Sequence[str], split: str) -> list[Result | None]:
    """Return the record for each task in any role, or None if there is none."""
    candidates = [[curve.get(alpha, role, task, split) for role in ROLES] for task in tasks]
    return [next(filter(None, results), None) for results in candidates]


def _known(kind: type, values: Json) -> Json:
    """Return the values whose keys are fields of a dataclass; later versions may write others."""
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in values.items() if name in names}


def _row(
    curve: "AlphaCurve", alpha: Alpha, sides: Sequence[Sequence[Result]], baseline: Baseline | None
) -> RobustnessRow:
    """Return the row for an alpha; `sides` holds records for its reference tasks, its shift tasks, and those at 0."""
    reference, shift, shift_0 = (
        float(sum(result.exact_accuracy for result in results) / len(results)) for results in sides
    )
    means = _resampled(curve, sides)
    return RobustnessRow(
        alpha=alpha,
        reference=reference,
        shift=shift,
        relative=relative_robustness(shift, shift_0),
        effective=effective_robustness(reference, shift, baseline) if baseline else None,
        relative_interval=None if means is None else _interval(means[:, 1] - means[:, 2]),
        effective_interval=_interval(means[:, 1] - baseline(means[:, 0])) if baseline and means is not None else None,
        exact=all(result.exact for results in sides for result in results),
    )


def _resampled(curve: "AlphaCurve", sides: Sequence[Sequence[Result]]) -> NDArray[np.float64] | None:
    """Return the mean accuracy of each side over images sampled with replacement, shape (NUM_RESAMPLES, num_sides).

    Images only differ in how many tasks on each side classify them correctly. Sampling images is therefore equivalent
    to sampling the number of images with each such pattern from a multinomial distribution.
    """
    right: dict[str, NDArray[np.int64]] = {}  # data set -> (num_images, num_sides)
    for side, results in enumerate(sides):
        for result in results:
            correct = curve.correct_images(result)
            if correct is None:
                return None
            key = result.rows_fingerprint or result.task
            right.setdefault(key, np.zeros((len(correct), len(sides)), dtype=np.int64))[:, side] += correct
    generator = np.random.default_rng(0)
    means = np.zeros((NUM_RESAMPLES, len(sides)))
    for counts in right.values():
        patterns, numbers = np.unique(counts, axis=0, return_counts=True)
        draws = generator.multinomial(len(counts), numbers / len(counts), size=NUM_RESAMPLES)
        means += draws @ patterns / len(counts)
    return means / [len(results) for results in sides]


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)
