"""Where the models of a run stand on an axis: at their alpha, or in order if they have coefficients."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.results.plots.shown import is_search


MOST_STEPS_NAMED = 6
"""Steps of sequential patching whose tasks the axis names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Positions:
    """Positions of models on an axis.

    Attributes:
        values: One position per model.
        label: Label of the axis.
        ticks: Name of each position, if they are not numbers.
        connected: Whether neighbours may be joined by a line.
    """

    values: Sequence[float]
    label: str
    ticks: Sequence[str] = ()
    connected: bool = True

    @classmethod
    def of(cls, alphas: Sequence[Alpha], *, end: str) -> "Positions":
        """Return the positions of alphas, of the steps of sequential patching, or of the combinations of a search.

        Args:
            alphas: Alphas of the models.
            end: Name of the model at alpha 1, or an empty string.
        """
        numbers = [alpha for alpha in alphas if not isinstance(alpha, Coefficients)]
        if len(numbers) == len(alphas):
            return cls(values=numbers, label="alpha (0: zero-shot" + (f", 1: {end})" if end else ")"))
        order = [float(place) for place in range(len(alphas))]
        if is_search(alphas):
            label = "combination of coefficients, in the order of the search (0: zero-shot)"
            return cls(values=order, label=label, connected=False)
        named = len(alphas) <= MOST_STEPS_NAMED
        return cls(values=order, label="step", ticks=[_step(alpha) for alpha in alphas] if named else ())

    def apply(self, axes: Axes) -> None:
        """Label the horizontal axis and set its limits."""
        axes.set_xlabel(self.label)
        low, high = min(self.values), max(self.values)
        room = 0.03 * (high - low) or 0.5
        axes.set_xlim(low - room, high + room)
        if low == high:
            axes.set_xticks([low])
        if self.ticks:
            axes.set_xticks(self.values, self.ticks)


def _step(alpha: Alpha) -> str:
    """Return the task that a step adds."""
    return [*alpha][-1] if isinstance(alpha, Coefficients) else "zero-shot"
