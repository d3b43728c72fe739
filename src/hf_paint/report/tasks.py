"""The tasks of a run at every point: accuracies, gains, other metrics, calibration, and counts by class."""

from collections.abc import Iterator, Sequence

from hf_paint.report.classes import per_class
from hf_paint.report.contents import Interval, Task
from hf_paint.report.pictures import pictures_of
from hf_paint.report.reading import Recorded
from hf_paint.results.details import Details
from hf_paint.results.outcome import SPLITS
from hf_paint.results.proportions import wilson_interval
from hf_paint.results.records import ROLES, Result, Role


METRIC = "top-1 accuracy"


def tasks_of(recorded: Recorded) -> list[Task]:
    """Return every task of a run at every point, in the order of the roles."""
    return [_task(recorded, role, name) for role in ROLES for name in recorded.curve.tasks.get(role, [])]


def means_of(recorded: Recorded, tasks: Sequence[Task]) -> dict[str, list[float | None]]:
    """Return the unweighted means over the patching and the supported tasks, and the mean of both, at every point."""
    sides = {role: _mean_of_role(recorded, tasks, role) for role in ("patching", "supported")}
    both = zip(*sides.values(), strict=True)
    return sides | {"mean": [_mean(pair) for pair in both]}


def _mean_of_role(recorded: Recorded, tasks: Sequence[Task], role: str) -> list[float | None]:
    """Return the mean over the tasks in a role that are shown on the split of the run, or over all if none is."""
    own = [task for task in tasks if task["role"] == role]
    shown = [task for task in own if task["split"] == recorded.split] or own
    columns = [[None if x is None else x["value"] for x in task["accuracy"]] for task in shown]
    return [_mean(values) for values in zip(*columns, strict=True)] if columns else [None] * len(recorded.points)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _task(recorded: Recorded, role: Role, name: str) -> Task:
    curve = recorded.curve
    order = dict.fromkeys([recorded.split, *SPLITS])
    split = next(split for split in order if any(r.split == split for r in curve.results if _is(r, role, name)))
    records = [curve.get(alpha, role, name, split) for alpha in recorded.points]
    details, names = recorded.details_of(records), recorded.class_names.get(name, ())
    pictures = recorded.pictures.get(name)
    seen = details
    if pictures is not None and pictures["split"] != split:
        seen = recorded.details_of([curve.get(alpha, role, name, pictures["split"]) for alpha in recorded.points])
    return Task(
        name=name,
        role=role,
        split=split,
        num_images=next(r.total for r in curve.results if _is(r, role, name) and r.split == split),
        metric=METRIC,
        accuracy=[None if record is None else _accuracy(record) for record in records],
        gain=[None if record is None else _gain(recorded, record) for record in records],
        exact=[record is None or record.exact for record in records],
        metrics=dict(_metrics(records)),
        per_class=per_class(names, details, recorded.zero_shot, recorded.chosen),
        calibration=_calibration(details),
        pictures=[] if pictures is None else pictures_of(recorded, pictures, names, seen),
        pictures_note="" if pictures is None else pictures["note"],
    )


def _is(result: Result, role: Role, name: str) -> bool:
    return (result.role, result.task) == (role, name)


def _accuracy(record: Result) -> Interval:
    low, high = wilson_interval(record.correct, record.total)
    return Interval(value=record.accuracy, low=low, high=high)


def _gain(recorded: Recorded, record: Result) -> Interval | None:
    gain = recorded.curve.gain(record)
    return None if gain is None else Interval(value=gain.gain, low=gain.low, high=gain.high)


def _metrics(records: Sequence[Result | None]) -> Iterator[tuple[str, list[float | None]]]:
    """Yield every metric besides the accuracy that any of the records has, with its value in each."""
    values: list[dict[str, float | None]] = [
        {} if record is None else {**record.metrics, "ece": record.ece} for record in records
    ]
    for name in dict.fromkeys(name for found in values for name in found):
        column = [found.get(name) for found in values]
        if name != "accuracy" and any(value is not None for value in column):
            yield name, column


def _calibration(details: Sequence[Details | None]) -> list[list[tuple[int, float, float]] | None] | None:
    rows = [None if found is None else _bins(found) for found in details]
    return rows if any(row is not None for row in rows) else None


def _bins(details: Details) -> list[tuple[int, float, float]]:
    """Return (images, mean confidence, accuracy) of each bin that has images."""
    found = details.calibration
    columns = zip(found.images.tolist(), found.confidence.tolist(), found.correct.tolist(), strict=True)
    return [(images, confidence / images, correct / images) for images, confidence, correct in columns if images]
