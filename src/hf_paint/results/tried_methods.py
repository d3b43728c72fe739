"""The merges that a run tried, what each reached on the validation images, and which of them is the best."""

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.entropies import have_entropies, mean_entropy
from hf_paint.results.run_files import TRIED
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE, Sides
from hf_paint.results.tables import number, percent


Choose: TypeAlias = Callable[[AlphaCurve, Fraction], Alpha | None]
"""Called as `choose(curve, baseline)`: returns the alpha of a curve without alpha 0 that a selection rule chooses. The
baseline is the supported accuracy at alpha 0, which the rule `entropy` does not read."""


TRIED_CAPTION = (
    "The merge was chosen first, by the same rule, from a few alphas of each of these. The best that each reached, as "
    "mean accuracies on the validation images in percent (and the mean entropy of predictions, if that is the rule):"
)


ENTROPY_FORM = ".4f"


class Reached(NamedTuple):
    """The best that a merge reached: its label, the alpha, and the means on the validation images there.

    The accuracies are None if the images of a task have no labels. The entropy is that of `mean_entropy`, in [0, 1];
    None if a task has none.
    """

    method: str
    alpha: float
    sides: Sides | None
    entropy: float | None


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
    before = _sides(curve, 0.0)
    alpha = choose(among, before.supported if before else Fraction(0))
    if not isinstance(alpha, Coefficients):  # never, because each record names its merge
        raise ValueError(f"{alpha} names no merge.")
    [(method, value)] = alpha.items()
    entropy = mean_entropy(curve, alpha) if have_entropies(curve, [alpha]) else None
    return Reached(method, value, _sides(curve, alpha), entropy)


def _sides(curve: AlphaCurve, alpha: Alpha) -> Sides | None:
    """Return the accuracies of an alpha, or None if the images of a task have no labels."""
    return curve.sides(alpha) if all(r.is_labelled for r in curve.results if r.alpha == alpha) else None


def tried_rows(curve: AlphaCurve, recipe: Mapping[str, Any]) -> list[list[str]]:
    """Return a table of what each merge reached, with a header; entropies are shown if the recipe chose by them."""
    by_entropy = recipe.get("selection") == "entropy"
    rows = [["merge", "alpha", "patching", "supported", *(["entropy"] if by_entropy else [])]]
    for found in reached(curve, rule_of_recipe(recipe)):
        entropy = [number(found.entropy, ENTROPY_FORM)] if by_entropy else []
        accuracies = map(percent, found.sides or (None, None))
        rows.append([found.method, format_alpha(found.alpha), *accuracies, *entropy])
    return rows


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
