"""What the plots of a run show: its curve, and what a curve alone does not know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Self

from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, alpha_phrase, format_alpha, is_unpatched
from hf_paint.results.change_text import measured_images, what_changed
from hf_paint.results.changes import changes_of
from hf_paint.results.proportions import accuracy_interval
from hf_paint.results.records import Result, Role
from hf_paint.results.run_files import ENSEMBLE
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.selection import BY_ENTROPY
from hf_paint.results.tables import FINE_TUNED, Interval, percent


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

MOST_NAMES = 3
"""Tasks of one role that an axis names; of more, it gives the number."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Shown:
    """What the plots of a run show.

    Attributes:
        curve: Results of the run.
        split: Split to show accuracies on.
        selected: Chosen alpha, if any.
        ensemble: Curve of the output-space ensemble, for comparison.
        end: Name of the model at alpha 1, or an empty string if it is not known.
        rule: Rule that chose alpha, if that is known.
    """

    curve: "AlphaCurve"
    split: str
    selected: Alpha | None = None
    ensemble: "AlphaCurve | None" = None
    end: str = FINE_TUNED
    rule: str = ""

    @classmethod
    def of(cls, curve: "AlphaCurve", split: str | None = None) -> Self:
        """Return what is known of a curve: from its run folder, if it has one.

        Args:
            curve: Curve.
            split: Split to show; by default, `test` or, for a search and without test images, `validation`.
        """
        shown = cls(curve=curve, split=split or default_split(curve))
        if curve.folder is None:
            return shown
        folder = RunFolder(curve.folder)
        selection = folder.load_selection()
        has_method = folder.recipe.exists() and folder.load_recipe().get("method", "interpolate") != "interpolate"
        return replace(
            shown,
            selected=None if selection is None else alpha_from_json(selection["alpha"]),
            ensemble=type(curve).from_run(folder.path, name=ENSEMBLE) if has_file(folder.path / ENSEMBLE) else None,
            end="" if has_method else FINE_TUNED,
            rule="" if selection is None else selection["rule"],
        )

    @property
    def alphas(self) -> tuple[Alpha, ...]:
        """Alphas at which every patching and supported task was evaluated on the split."""
        return self.curve.points(self.split)

    @property
    def records(self) -> list[Result]:
        """Records on the split."""
        return [result for result in self.curve.results if result.split == self.split]

    @property
    def place(self) -> Alpha | None:
        """Alpha whose changes the titles state: the chosen one or, if there is none, the last of the curve."""
        on_line = [alpha for alpha in self.curve.alphas if not isinstance(alpha, Coefficients)]
        return self.selected if self.selected is not None else max(on_line, default=None)

    @property
    def finding(self) -> str:
        """What the tasks gained and lost at that alpha, in words; without any change, their accuracies."""
        place = self.place
        if place is None or is_unpatched(place):
            return self._unpatched("" if place is None else f" at {alpha_phrase(place)}")
        changes = list(changes_of(self.curve, place, (self.split,)))
        return f"{what_changed(changes)}, at {alpha_phrase(place)}" if changes else f"Accuracy on {self.images}"

    def _unpatched(self, where: str) -> str:
        results = [r for r in self.records if r.alpha == 0]
        accuracies = [f"{r.task} {percent(r.accuracy, digits=1)} %" for r in results[:MOST_NAMES]]
        more = f" and {len(results) - MOST_NAMES} more tasks" if len(results) > MOST_NAMES else ""
        return f"Nothing is patched{where}: {', '.join(accuracies)}{more} on {self.images}"

    @property
    def images(self) -> str:
        """Which images of the split were evaluated."""
        return measured_images(self.split, self.records)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the numbers."""
        notes = []
        if not all(r.exact for r in self.records):
            notes.append("Hollow points: measured on some of the images, inferred for the others (adaptive sweep).")
        if any(r.mean_average_precision is not None for r in self.records):
            notes.append("Accuracy of a task with several classes per image: the best class is one of them (top 1).")
        if self.rule == "entropy":
            notes.append(f"Alpha was chosen by {BY_ENTROPY}.")
        return notes

    def named(self, alpha: Alpha) -> str:
        """Return the name of a model on the line: `zero-shot`, `fine-tuned (alpha 1.00)`, or `alpha 0.40`."""
        if is_unpatched(alpha):
            return "zero-shot"
        text = alpha_phrase(alpha)
        return f"{self.end} ({text})" if alpha == 1.0 and self.end else text

    def mark_of(self, alpha: Alpha) -> str:
        """Return the label of a marked point: its name and whether it was chosen; coefficients are in the title."""
        if alpha != self.selected:
            return self.named(alpha)
        if isinstance(alpha, Coefficients):
            return "chosen"
        return "chosen: " + (f"zero-shot (alpha {format_alpha(alpha)})" if is_unpatched(alpha) else self.named(alpha))

    def mean(self, alpha: Alpha, role: Role) -> Fraction:
        """Return the mean accuracy over the tasks in a role."""
        return self.curve.mean_accuracy(alpha, role, self.split)

    def interval(self, alpha: Alpha, role: Role) -> Interval | None:
        """Return the 95 % interval of the mean accuracy over the tasks in a role."""
        return accuracy_interval(self.results(alpha, role))

    def results(self, alpha: Alpha, role: Role) -> list[Result]:
        """Return the records of the tasks in a role."""
        results = [self.curve.get(alpha, role, task, self.split) for task in self.curve.tasks.get(role, [])]
        return [result for result in results if result is not None]

    def axis_labels(self, role: Role) -> list[str]:
        """Return labels of an axis with the mean accuracy over the tasks in a role, longest first."""
        tasks = [task for task in self.curve.tasks.get(role, []) if self.tested(role, task)]
        mean = f"mean {role}" if len(tasks) > 1 else role
        number = f"{len(tasks)} tasks" if len(tasks) > 1 else ""
        named = [", ".join(tasks), number] if len(tasks) <= MOST_NAMES else [number]
        return [f"{mean} accuracy, % ({'; '.join(filter(None, [names, self.split]))})" for names in named]

    def tested(self, role: Role, task: str) -> bool:
        """Return whether a task was evaluated on the split at any alpha."""
        return any(self.curve.get(alpha, role, task, self.split) for alpha in self.curve.alphas)

    @property
    def texts(self) -> list[str]:
        """Names that the plots may show, to find fonts for them."""
        return [task for tasks in self.curve.tasks.values() for task in tasks] + [self.end]


def is_search(alphas: Sequence[Alpha]) -> bool:
    """Return whether alphas are those of a search: combinations of the same tasks, which lie on no line."""
    combinations = [frozenset(alpha) for alpha in alphas if isinstance(alpha, Coefficients)]
    return len(set(combinations)) < len(combinations)


def default_split(curve: "AlphaCurve") -> str:
    """Return the split whose accuracies a plot shows: of a search, only the chosen combination has test images."""
    return (
        "validation" if is_search(curve.alphas) and "validation" in curve.splits("patching") else curve.reported_split
    )


def has_file(path: Path) -> bool:
    """Return whether a file exists and is not empty."""
    return path.exists() and path.stat().st_size > 0
