"""The classes whose accuracy changed most between the zero-shot model and the chosen one."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from hf_paint.errors import InputError
from hf_paint.results.alphas import alpha_phrase
from hf_paint.results.change_text import signed_points
from hf_paint.results.class_changes import ClassChange, class_changes
from hf_paint.results.plots.frame import framed, show_percent
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.style import BLUE, SMALL, VERMILLION, Plot, styled
from hf_paint.results.plots.texts import Face


MOST_SHOWN = 8
"""Maximum number of classes that lost, and of classes that gained."""
ROW = 0.24
"""Height of a row in inches."""
MOST_ROOM = 2.6
"""Maximum width of the names of the classes, in inches."""


def draw_per_class(shown: Shown) -> Plot:
    """Draw the accuracy of the classes that lost and gained most, before and after, of all tasks together.

    Raises:
        InputError: If no alpha was chosen, or the run did not count by class.
    """
    changes = class_changes(shown.curve, shown.place, shown.split) if shown.place is not None else []
    return draw_changes(shown, most_changed(changes), num_classes=len(changes))


def most_changed(changes: Sequence[ClassChange]) -> list[ClassChange]:
    """Return the classes that lost most, the worst first, followed by those that gained most, the best last."""
    ordered = sorted(changes, key=lambda change: (change.gain, change.task, change.name))
    lost = [change for change in ordered if change.gain < 0][:MOST_SHOWN]
    gained = [change for change in ordered if change.gain > 0][-MOST_SHOWN:]
    return [*lost, *gained]


def draw_changes(shown: Shown, changes: Sequence[ClassChange], *, num_classes: int) -> Plot:
    """Draw changes of classes, from top to bottom.

    Args:
        shown: What is shown of the run.
        changes: Changes of some classes.
        num_classes: Number of all classes.

    Raises:
        InputError: If there are no changes, because nothing was counted or nothing changed.
    """
    if not num_classes or shown.place is None:
        raise InputError(
            f"The {shown.split} images were not counted by class: the run has no details.jsonl or no tasks.json, or "
            "no alpha to compare with zero-shot. Run `hf-paint patch` again in another folder to record them."
        )
    title = _title(shown, changes)
    with styled([title, *shown.texts, *(change.name for change in changes)]):
        names, face = [f"{change.name} ({change.task})" for change in changes], Face(Plot(1.0))
        left = 0.25 + min(MOST_ROOM, max(map(face.width, names), default=0.5))
        texts = [_text(change) for change in changes]
        right = 0.2 + max((Face(Plot(1.0), SMALL).width(text) for text in texts), default=0.5)
        note = f"Classes that changed most, of {num_classes}. Hollow: zero-shot; filled: {alpha_phrase(shown.place)}."
        plot, axes = framed(title, [note], height=max(1.0, ROW * (len(changes) + 1)), left=left, right=right)
        axes.set_ylim(len(changes) - 0.3, -0.7)
        axes.set_yticks(range(len(changes)), [face.shortened(name, MOST_ROOM) for name in names])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        show_percent(axes.xaxis, [0.0, 100.0], room=0.03)
        axes.set_xlabel(f"accuracy, % ({shown.split})")
        for row, (change, text) in enumerate(zip(changes, texts, strict=True)):
            _draw(axes, row, change)
            axes.annotate(text, (1, row), (6, 0), ("axes fraction", "data"), "offset points", size=SMALL, va="center")
    return plot


def _title(shown: Shown, changes: Sequence[ClassChange]) -> str:
    where = "" if shown.place is None else f" at {alpha_phrase(shown.place)}"
    if not changes:
        return f"No class changed on {shown.images}{where}"
    found = []
    if changes[0].gain < 0:
        found.append(f"{changes[0].name} ({changes[0].task}) loses most, {signed_points(changes[0].gain)}")
    if changes[-1].gain > 0:
        found.append(f"{changes[-1].name} ({changes[-1].task}) gains most, {signed_points(changes[-1].gain)}")
    return f"By class: {'; '.join(found)} points on {shown.images}{where}"


def _text(change: ClassChange) -> str:
    return f"{signed_points(change.gain)} ({change.total:,} image{'s' if change.total > 1 else ''})"


def _draw(axes: Axes, row: int, change: ClassChange) -> None:
    before, after = (100 * count / change.total for count in (change.before, change.after))
    color = BLUE if change.gain > 0 else VERMILLION
    axes.plot([before, after], [row, row], color=color, linewidth=2.2, zorder=2)
    axes.scatter([before], [row], s=34, facecolors="white", edgecolors=color, linewidths=1.6, zorder=3)
    axes.scatter([after], [row], s=34, color=color, marker=">" if change.gain > 0 else "<", zorder=3)
