"""The gain of a task over zero-shot."""

from dataclasses import dataclass

from hf_paint.results.records import Role
from hf_paint.results.tables import Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Gain:
    """Accuracy on one task at some alpha minus accuracy at alpha 0, as a fraction of 1.

    `low` and `high` are the bounds of the 95 % paired bootstrap interval. They are None without per-image data.
    """

    task: str
    role: Role
    split: str
    gain: float
    low: float | None = None
    high: float | None = None

    @property
    def interval(self) -> Interval | None:
        """Bounds of the interval, or None without per-image data."""
        return None if self.low is None or self.high is None else (self.low, self.high)
