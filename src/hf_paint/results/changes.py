"""What a task gained or lost between alpha 0 and another alpha."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from hf_paint.results.alphas import Alpha
from hf_paint.results.gains import Gain
from hf_paint.results.records import ROLES, Result, Role


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A task before and after patching: its records at alpha 0 and at the chosen alpha, and the gain."""

    before: Result
    after: Result
    gain: Gain

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.after.task

    @property
    def role(self) -> Role:
        """Role of the task."""
        return self.after.role

    @property
    def split(self) -> str:
        """Split on which it was measured."""
        return self.after.split

    @property
    def loss(self) -> Fraction:
        """Loss of accuracy, as an exact fraction."""
        return self.before.exact_accuracy - self.after.exact_accuracy

    @property
    def exact(self) -> bool:
        """Whether all images were evaluated, before and after."""
        return self.before.exact and self.after.exact


def is_certain(gain: Gain) -> bool:
    """Return whether the 95 % interval of a gain excludes 0 or is 0; True without per-image data, so no interval."""
    bounds = gain.interval
    return bounds is None or bounds[0] > 0 or bounds[1] < 0 or not any(bounds)


def changes_of(curve: "AlphaCurve", alpha: Alpha, splits: Sequence[str]) -> Iterator[Change]:
    """Yield the change of every task, in the order of the roles, on the first of the splits with both records."""
    for role in ROLES:
        for task in curve.tasks.get(role, []):
            for split in splits:
                before, after = (curve.get(point, role, task, split) for point in (0.0, alpha))
                gain = None if after is None else curve.gain(after)
                if before is not None and after is not None and gain is not None:
                    yield Change(before=before, after=after, gain=gain)
                    break


def mean_loss(changes: Sequence[Change]) -> Fraction | None:
    """Return the loss of the unweighted mean accuracy, as an exact fraction; None without changes."""
    return sum((change.loss for change in changes), Fraction(0)) / len(changes) if changes else None
