"""What the classes of a task gained and lost between alpha 0 and another alpha."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha
from hf_paint.results.details import Details
from hf_paint.results.details_log import RunDetails
from hf_paint.results.records import ROLES, Role
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.stored import read_named_tasks


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassChange:
    """A class before and after patching.

    Attributes:
        task: Name of the task.
        role: Role of the task.
        name: Name of the class.
        before: Number of its images that are classified correctly at alpha 0.
        after: Number of its images that are classified correctly at the other alpha.
        total: Number of its images.
    """

    task: str
    role: Role
    name: str
    before: int
    after: int
    total: int

    @property
    def gain(self) -> Fraction:
        """Gain of accuracy, as an exact fraction of 1."""
        return Fraction(self.after - self.before, self.total)


def class_changes(curve: "AlphaCurve", alpha: Alpha, split: str) -> list[ClassChange]:
    """Return the change of every class that has images, task by task in the order of the roles.

    Args:
        curve: Curve of a run with its folder.
        alpha: Alpha to compare with alpha 0.
        split: Split to count on.

    Returns:
        The changes. Tasks whose counts were not recorded, e.g. multiple choice, and runs without `details.jsonl` or
        `tasks.json` have none.
    """
    if curve.folder is None:
        return []
    details, names = RunDetails.of_run(curve.folder), _class_names(RunFolder(curve.folder))
    changes = []
    for role in ROLES:
        for task in curve.tasks.get(role, []):
            results = [curve.get(point, role, task, split) for point in (0.0, alpha)]
            found = [None if result is None else details.of(result) for result in results]
            changes += _changes(task, role, names.get(task, ()), *found)
    return changes


def _changes(
    task: str, role: Role, names: Sequence[str], before: Details | None, after: Details | None
) -> list[ClassChange]:
    confusions = [None if details is None else details.confusion for details in (before, after)]
    if not names or confusions[0] is None or confusions[1] is None:
        return []
    correct = [confusion.correct(len(names)).tolist() for confusion in confusions if confusion is not None]
    total = confusions[0].total(len(names)).tolist()
    return [
        ClassChange(task=task, role=role, name=name, before=counts[0], after=counts[1], total=images)
        for name, images, *counts in zip(names, total, *correct, strict=True)
        if images
    ]


def _class_names(folder: RunFolder) -> Mapping[str, Sequence[str]]:
    """Return task -> names of its classes, in the order of the logits."""
    return {task["name"]: task["class_names"] for task in read_named_tasks(folder.tasks)}
