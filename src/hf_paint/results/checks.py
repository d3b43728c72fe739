"""The comparison of two models on the same images: a verdict per task, and one for all."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from hf_paint.results.paired import images_needed, paired_interval
from hf_paint.results.records import Result
from hf_paint.results.tables import Interval, in_points, percent, points
from hf_paint.tasks.notebooks import html_table


TaskVerdict = Literal["kept", "regressed", "gained", "missing", "cannot tell"]
Verdict = Literal["passed", "failed", "cannot tell"]
EXIT_CODES: dict[Verdict, int] = {"passed": 0, "failed": 3, "cannot tell": 4}
DECIDING: dict[Verdict, tuple[TaskVerdict, ...]] = {
    "passed": ("kept", "gained"),
    "failed": ("regressed", "missing"),
    "cannot tell": ("cannot tell",),
}
"""Verdict -> the verdicts on tasks that lead to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCheck:
    """Comparison of two models on the same images of one task.

    Attributes:
        before: Record of the model that is compared with.
        after: Record of the model that is checked.
        won: Number of images that only the checked model classifies correctly.
        lost: Number of images that only the other model classifies correctly.
        rule: `keep`, if the difference must be above minus the tolerance, or `gain`, if it must be above a gain.
        bound: Difference in accuracy that the rule compares with.
    """

    before: Result
    after: Result
    won: int
    lost: int
    rule: Literal["keep", "gain"]
    bound: float

    @property
    def difference(self) -> float:
        """Accuracy of the checked model minus that of the other."""
        return (self.won - self.lost) / self.after.total

    @property
    def interval(self) -> Interval:
        """95 % confidence interval of the difference (see `paired_interval`)."""
        return paired_interval(self.won, self.lost, self.after.total)

    @property
    def verdict(self) -> TaskVerdict:
        """Whether the whole interval is on one side of the bound, and on which."""
        low, high = self.interval
        if low <= self.bound <= high:
            return "cannot tell"
        if self.rule == "keep":
            return "kept" if low > self.bound else "regressed"
        return "gained" if low > self.bound else "missing"

    @property
    def images_needed(self) -> int | None:
        """About how many images would tell, if these do not; None if they do, or no practical number would."""
        if self.verdict != "cannot tell":
            return None
        return images_needed(self.won, self.lost, self.after.total, self.bound)

    def to_dict(self) -> dict[str, object]:
        """Return the comparison as JSON values."""
        low, high = self.interval
        return {
            "task": self.after.task,
            "rule": self.rule,
            "bound": self.bound,
            "images": self.after.total,
            "drawn_from": self.after.drawn_from,
            "before": self.before.accuracy,
            "after": self.after.accuracy,
            "won": self.won,
            "lost": self.lost,
            "difference": self.difference,
            "interval": [low, high],
            "verdict": self.verdict,
            "images_needed": self.images_needed,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Comparison of two models on several tasks.

    Attributes:
        model: Name of the model that is checked.
        against: Name of the model that it is compared with.
        split: Split of the tasks.
        tasks: One comparison per task.
    """

    model: str
    against: str
    split: str
    tasks: Sequence[TaskCheck]

    @property
    def verdict(self) -> Verdict:
        """`passed` if every task is kept or gained, `failed` if one regressed or a gain is missing."""
        verdicts = {task.verdict for task in self.tasks}
        if verdicts & {"regressed", "missing"}:
            return "failed"
        return "cannot tell" if "cannot tell" in verdicts else "passed"

    @property
    def exit_code(self) -> int:
        """Exit code of `hf-paint check`: 0 if passed, 3 if failed, 4 if the images do not suffice to tell."""
        return EXIT_CODES[self.verdict]

    def to_dict(self) -> dict[str, object]:
        """Return the comparison as JSON values."""
        return {
            "model": self.model,
            "against": self.against,
            "fingerprint": self.tasks[0].after.weights,
            "against_fingerprint": self.tasks[0].before.weights,
            "split": self.split,
            "tasks": [task.to_dict() for task in self.tasks],
            "verdict": self.verdict,
            "exit_code": self.exit_code,
        }

    def _repr_html_(self) -> str:
        return f"<p>{escape(self.sentence())}</p>{html_table(self.rows())}"

    def rows(self) -> list[list[str]]:
        """Return a table, header first, one row per task."""
        rows = [["task", "must", "images", "before", "after", "difference in points (95 % interval)", "verdict"]]
        for task in self.tasks:
            accuracies = [percent(task.before.accuracy), percent(task.after.accuracy)]
            change = points(task.difference, task.interval)
            cells = [task.after.task, _demand(task), task.after.num_images, *accuracies, change, task.verdict]
            rows.append(cells)
        return rows

    def sentence(self) -> str:
        """Return the verdict as one sentence, on the tasks that decide it."""
        deciding = [task for task in self.tasks if task.verdict in DECIDING[self.verdict]]
        return f"{self.verdict.capitalize()}: {'; '.join(map(_clause, deciding))}."


def _demand(task: TaskCheck) -> str:
    return f"{'lose less' if task.rule == 'keep' else 'gain more'} than {in_points(task.bound)}"


def _clause(task: TaskCheck) -> str:
    """Return what the check found for a task."""
    name, demand = task.after.task, _demand(task)
    if task.verdict in ("kept", "gained"):
        return f"{name} {task.verdict} ({points(task.difference, task.interval, digits=1)} points)"
    if task.verdict in ("regressed", "missing"):
        change = points(task.difference, task.interval, digits=1)
        return f"{name} must {demand}, but changed by {change} points"
    needed = task.images_needed
    advice = "the difference is too close to the bound" if needed is None else f"about {needed:,} would"
    return f"{task.after.total:,} images of {name} do not tell whether it would {demand}; {advice}"
