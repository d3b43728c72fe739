"""Robustness under distribution shift at every point, and the output-space ensemble."""

from collections.abc import Sequence

from hf_paint.report.contents import Scatter, Table
from hf_paint.report.reading import Recorded
from hf_paint.results.alphas import Alpha, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Role
from hf_paint.results.robustness_table import RobustnessRow, RobustnessTable


Pairs = list[tuple[float | None, float | None]]


def scatter_of(recorded: Recorded) -> Scatter | None:
    """Return the accuracy under shift and on the reference at every point; None for a run without shift tasks."""
    table, ensemble = _table(recorded, "weights"), _table(recorded, "ensemble")
    if table is None:
        return None
    rows, shifts, line = _at(recorded.points, table), table.shift_tasks, table.baseline
    return Scatter(
        reference=f"{', '.join(table.reference_tasks)} ({table.reference_split})",
        shift=f"{shifts[0]} (test)" if len(shifts) == 1 else f"mean of {', '.join(shifts)} (test)",
        x=[None if row is None else row.reference for row in rows],
        y=[None if row is None else row.shift for row in rows],
        baseline=None if line is None else (line.intercept, line.slope),
        effective=[None if row is None else row.effective for row in rows],
        ensemble=None if ensemble is None else [_pair(row) for row in _at(recorded.points, ensemble)],
    )


def robustness_rows(recorded: Recorded) -> list[Table]:
    """Return a table of relative and effective robustness with their intervals; empty without shift tasks."""
    table = _table(recorded, "weights")
    if table is None:
        return []
    measures = ["relative robustness", *(["effective robustness"] if table.baseline else [])]
    bounds = [f"{measure}, {end}" for measure in measures for end in ("low", "high")]
    numbers = ["reference", "mean of shifts", *measures, *bounds]
    rows: list[list[str | float | None]] = []
    for row in table.rows:
        intervals = [row.relative_interval, *([row.effective_interval] if table.baseline else [])]
        effective = [row.effective] if table.baseline else []
        ends = [end for interval in intervals for end in (interval or (None, None))]
        rows.append([format_alpha(row.alpha), row.reference, row.shift, row.relative, *effective, *ends])
    return [
        Table(title="Robustness under distribution shift", columns=["alpha", *numbers], percent=numbers, rows=rows)
    ]


def ensemble_of(recorded: Recorded) -> Pairs | None:
    """Return the mean (supported, patching) accuracy of the output-space ensemble at every point, if measured."""
    curve, split = recorded.ensemble, recorded.split
    if curve is None or any(split not in curve.splits(role) for role in ("supported", "patching")):
        return None
    complete = curve.points(split)
    return [
        (_mean(curve, alpha, "supported", split), _mean(curve, alpha, "patching", split))
        if alpha in complete
        else (None, None)
        for alpha in recorded.points
    ]


def _mean(curve: AlphaCurve, alpha: Alpha, role: Role, split: str) -> float:
    return float(curve.mean_accuracy(alpha, role, split))


def _table(recorded: Recorded, name: str) -> RobustnessTable | None:
    stored = recorded.files.load_robustness() or {}
    values = stored.get(name)
    return RobustnessTable.from_dict(values) if values else None


def _at(points: Sequence[Alpha], table: RobustnessTable) -> list[RobustnessRow | None]:
    rows = {row.alpha: row for row in table.rows}
    return [rows.get(alpha) for alpha in points]


def _pair(row: RobustnessRow | None) -> tuple[float | None, float | None]:
    return (None, None) if row is None else (row.reference, row.shift)
