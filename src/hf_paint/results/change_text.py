"""What the tasks of a run gained and lost, in words."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from hf_paint.results.changes import Change, is_certain, mean_loss
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.tables import Interval, percent, points


MOST_NAMED = 3
"""Tasks of one role that a sentence names; of more, it gives the mean and the worst."""
MOST_DIGITS = 4
CHOOSING: tuple[Role, ...] = ("patching", "supported")
ANSWER_TYPE = "accuracy_"


def what_changed(changes: Sequence[Change]) -> str:
    """Return gains and losses with 95 % intervals, in points, and the images they were measured on.

    Args:
        changes: At least one change. The first one's split is named.
    """
    split = changes[0].split
    phrases = [phrase for role in ROLES for phrase in _of_role(changes, role, split)]
    images = measured_images(split, [change.after for change in changes if change.split == split])
    return f"{', '.join(phrases)} on {images}"


def measured_images(split: str, results: Iterable[Result]) -> str:
    """Return which images of a split were evaluated: all, or samples for all tasks or for some."""
    sampled = {result.task: result.sample is not None for result in results}
    if sampled and all(sampled.values()):
        return f"samples of the {split} images"
    names = [task for task, is_sampled in sampled.items() if is_sampled]
    return f"{split} images" + (f" (of {', '.join(names)}: on a sample)" if names else "")


def _of_role(every: Sequence[Change], role: Role, split: str) -> list[str]:
    """Return what happened to each task in a role or, if there are many, to their mean and to the worst of them."""
    changes = [change for change in every if change.role == role]
    suffix = "" if role in CHOOSING else f" ({role})"
    if len(changes) <= MOST_NAMED:
        return [f"{change.task}{suffix} {_change(change, split)}" for change in changes]
    worst = max(changes, key=lambda change: change.loss)
    about = "" if all(change.exact for change in changes) else "about "
    mean = f"{about}{signed_points(-(mean_loss(changes) or 0))} on average"
    return [f"the {len(changes)} {role} tasks {mean} (worst: {worst.task} {_change(worst, split)})"]


def _change(change: Change, split: str) -> str:
    """Return the gain on a task, with all that a reader must know to trust it."""
    gain, bounds = change.gain.gain, change.gain.interval
    unchanged = gain == 0 and bounds == (0, 0) and change.exact
    text = "unchanged" if unchanged else f"{'' if change.exact else 'about '}{signed_points(gain)}"
    notes = [] if bounds is None or unchanged else [signed_interval(bounds)]
    notes += [] if is_certain(change.gain) else ["not certain"]
    notes += [] if change.split == split else [f"{change.split} images"]
    notes += [f"{name} {before} to {after}" for name, (before, after) in other_metrics(change).items()]
    return text + (f" ({', '.join(notes)})" if notes else "")


def signed_points(value: Fraction | float) -> str:
    """Format a difference in points with one digit, or with as many as show that it is not 0."""
    shown = (digits for digits in range(1, MOST_DIGITS) if round(100 * float(value), digits))
    return points(float(value) + 0.0, digits=next(shown, MOST_DIGITS) if value else 1)


def signed_interval(bounds: Interval) -> str:
    """Format an interval of differences in points."""
    return " to ".join(map(signed_points, bounds))


def other_metrics(change: Change, *, answers: bool = False) -> Mapping[str, tuple[str, str]]:
    """Return the metrics besides accuracy, before and after; with `answers`, also the accuracy by answer type."""
    found = {}
    for metric in EXTRA_METRICS:
        if values := metric.pair(change.before, change.after):
            found[metric.name] = values
    before, after = change.before.metrics, change.after.metrics
    for key in sorted(before.keys() & after.keys()) if answers else ():
        if key.startswith(ANSWER_TYPE):
            name = f"{key.removeprefix(ANSWER_TYPE)} answers"
            found[name] = (percent(before[key], digits=1), percent(after[key], digits=1))
    return found
