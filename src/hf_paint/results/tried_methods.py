"""The merges that a run tried, what each reached on the validation images, and which of them is the best."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_files import TRIED
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE, Sides
from hf_paint.results.tables import percent


Choose: TypeAlias = Callable[[AlphaCurve, Fraction], Alpha | None]
"""Called as `choose(curve, baseline)`: returns the alpha of a curve without alpha 0 that a selection rule chooses. The
baseline is the supported accuracy at alpha 0."""


TRIED_CAPTION = (
    "The merge was chosen first, by the same rule, from a few alphas of each of these. The best that each reached, as "
    "mean accuracies on the validation images in percent:"
)


class Reached(NamedTuple):
    """The best that a merge reached: its label, the alpha, and the mean validation accuracies there."""

    method: str
    alpha: float
    sides: Sides


def reached(curve: AlphaCurve, choose: Choose) -> list[Reached]:
    """Return the best that each merge reached, in the order in which they were tried.

    Args:
        curve: Records at alpha 0 and at `{merge: alpha}`.
        choose: Selection rule.
    """
    alphas = [alpha for alpha in curve.points("validation") if isinstance(alpha, Coefficients)]
    labels = dict.fromkeys(label for alpha in alphas for label in alpha)
    return [_best(curve, choose, [alpha for alpha in alphas if label in alpha]) for label in labels]


def best(curve: AlphaCurve, choose: Choose) -> str:
    """Return the label of the merge that the selection rule chooses among all that were tried.

    Alpha 0 is left out: if no merge is within the tolerance, the one that loses least is chosen, because the sweep
    that follows may find an alpha that is.
    """
    return _best(curve, choose, [alpha for alpha in curve.points("validation") if alpha != 0.0]).method


def _best(curve: AlphaCurve, choose: Choose, alphas: Sequence[Alpha]) -> Reached:
    among = AlphaCurve(result for result in curve.results if result.alpha in alphas)
    alpha = choose(among, curve.sides(0.0).supported)
    if not isinstance(alpha, Coefficients):  # never, because each record names its merge
        raise ValueError(f"{alpha} names no merge.")
    [(method, value)] = alpha.items()
    return Reached(method, value, curve.sides(alpha))


def tried_rows(curve: AlphaCurve, choose: Choose) -> list[list[str]]:
    """Return a table of what each merge reached, with a header."""
    rows = [["merge", "alpha", "patching", "supported"]]
    return rows + [[r.method, format_alpha(r.alpha), *map(percent, r.sides)] for r in reached(curve, choose)]


def rule_of_recipe(recipe: Mapping[str, Any]) -> Choose:
    """Return the selection rule of a recipe."""
    rule, tolerance = recipe.get("selection", DEFAULT_RULE), float(recipe.get("tolerance", DEFAULT_TOLERANCE))
    return lambda curve, baseline: curve.select(rule, tolerance=tolerance, baseline=baseline)


def read_tried(folder: str | Path) -> AlphaCurve | None:
    """Return the records of the merges that a run tried, or None if it tried none.

    Once the merge is chosen, a trial that is lost to damage is not repeated. Without those at alpha 0, the others
    cannot be compared, so None is returned.

    Raises:
        InputError: If a record is damaged.
    """
    if not (Path(folder) / TRIED).exists():
        return None
    curve = AlphaCurve.from_run(folder, name=TRIED)
    return curve if 0.0 in curve.points("validation") else None
