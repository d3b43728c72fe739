"""What other rules would choose from the same records."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from hf_paint.results.alphas import Alpha, alpha_from_json, is_unpatched
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.entropies import have_entropies
from hf_paint.results.selection import (
    BY_HAND,
    DEFAULT_RULE,
    DEFAULT_TOLERANCE,
    RULES,
    Selection,
    SelectionRule,
    Sides,
    least_tolerance,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """What another rule would choose.

    Attributes:
        flags: Flags of `hf-paint select` that choose it.
        alpha: The alpha.
        gains: Gains of the mean patching and supported accuracy over alpha 0, on validation images.
        keeps_more: Whether its supported accuracy is higher than at the chosen alpha, on validation images.
        exact: Whether all images were evaluated there.
    """

    flags: str
    alpha: Alpha
    gains: Sides
    keeps_more: bool
    exact: bool = True


def rules_of(curve: AlphaCurve, selection: Selection | None, recipe: Mapping[str, object]) -> dict[str, Alternative]:
    """Return what each rule would choose, except the one that chose; empty if that is not known.

    Args:
        curve: Results of the run.
        selection: Contents of `selection.json`, or None if no alpha was chosen.
        recipe: Recipe of the run.
    """
    complete = curve.points("validation")
    sided = labelled_among(curve, complete)
    chosen = 0.0 if selection is None else alpha_from_json(selection["alpha"])
    sides = _sides(sided, chosen)
    if sides is None or recipe.get("strategy") == "sequential":
        return {}
    tolerance = float(str(recipe.get("tolerance", DEFAULT_TOLERANCE)))
    given = "" if tolerance == DEFAULT_TOLERANCE else f" --tolerance {tolerance:g}"
    own = None if selection is None else selection["rule"]
    flags: dict[SelectionRule, str] = {"mean": "", DEFAULT_RULE: given, "entropy": ""}
    return {
        rule: _choice_of(sided, sides, chosen, rule, tolerance, f"--selection {rule}{with_tolerance}")
        for rule, with_tolerance in flags.items()
        if rule != own and (rule != "entropy" or have_entropies(sided, sides))
    }


def labelled_among(curve: AlphaCurve, alphas: Collection[Alpha]) -> AlphaCurve:
    """Return the curve of these alphas without the records of unlabelled splits, which have no accuracy."""
    results = (result for result in curve.results if result.alpha in alphas and result.is_labelled)
    return AlphaCurve(results, folder=curve.folder)


def _sides(curve: AlphaCurve, chosen: Alpha) -> dict[Alpha, Sides] | None:
    """Return both accuracies of every alpha; None if a side has no validation images, or the chosen one no record."""
    if any("validation" not in curve.splits(role) for role in ("patching", "supported")) or chosen not in curve.alphas:
        return None
    return {alpha: curve.sides(alpha) for alpha in curve.alphas}


def alternative_of(curve: AlphaCurve, selection: Selection, recipe: Mapping[str, object]) -> Alternative | None:
    """Return what the other rule would choose, or with which tolerance `supported_within` would patch anything."""
    chosen = alpha_from_json(selection["alpha"])
    sides = _sides(curve, chosen)
    if sides is None:
        return None
    rule: SelectionRule = DEFAULT_RULE
    flags, tolerance = f"--selection {DEFAULT_RULE}", DEFAULT_TOLERANCE
    if selection["rule"] == DEFAULT_RULE:
        needed = least_tolerance(sides) if is_unpatched(chosen) else None
        if needed is None:
            return None
        flags, tolerance = f"--tolerance {needed:g}", needed
    elif selection["rule"] == BY_HAND and (own := _without_tolerance(recipe.get("selection"))):
        if own == "entropy" and not have_entropies(curve, sides):
            return None
        rule, flags = own, f"--selection {own}"
    elif selection["rule"] == BY_HAND and recipe.get("selection") == DEFAULT_RULE:
        tolerance = float(str(recipe.get("tolerance", tolerance)))
    found = _choice_of(curve, sides, chosen, rule, tolerance, flags)
    same = found.alpha == chosen or (is_unpatched(found.alpha) and is_unpatched(chosen))
    return None if same else found


def _without_tolerance(name: object) -> SelectionRule | None:
    return next((rule for rule in RULES if rule == name and rule != DEFAULT_RULE), None)


def _choice_of(
    curve: AlphaCurve, sides: Mapping[Alpha, Sides], chosen: Alpha, rule: SelectionRule, tolerance: float, flags: str
) -> Alternative:
    alpha = curve.select(rule, tolerance=tolerance)
    gains = Sides(*(after - before for after, before in zip(sides[alpha], sides[0.0], strict=True)))
    keeps_more = sides[alpha].supported > sides[chosen].supported
    exact = alpha in curve.exact_alphas
    return Alternative(flags=flags, alpha=alpha, gains=gains, keeps_more=keeps_more, exact=exact)
