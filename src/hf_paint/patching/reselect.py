"""Choosing alpha again, from the records of a finished run: no model is run, and no image is read."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.recorded import existing, read_tower, recorded_path
from hf_paint.patching.examples import plot_saved_examples
from hf_paint.patching.finish import save_chosen, save_plots, selection_of
from hf_paint.patching.options import PatchResult
from hf_paint.patching.recipe import Rule
from hf_paint.patching.recorded import recorded_run
from hf_paint.report.writing import redraw_report
from hf_paint.results.alphas import Alpha, Coefficients, alpha_phrase, canonical, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.outcome import Outcome
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog
from hf_paint.results.resuming import makes_weights
from hf_paint.results.run_files import ENSEMBLE
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import check_readable
from hf_paint.results.selection import (
    DEFAULT_RULE,
    DEFAULT_TOLERANCE,
    RULES,
    Selection,
    SelectionRule,
    check_tolerance,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class NewChoice:
    """Another choice of alpha for a finished run, of which nothing has been written yet.

    Attributes:
        folder: Run folder.
        recipe: Recipe of the run, with the new rule.
        curve: Results of the run, including `copies`.
        alpha: Chosen alpha.
        by_hand: Whether alpha was chosen by hand.
        copies: Records to add: those of alpha 0 under the combination whose coefficients are all 0.
    """

    folder: RunFolder
    recipe: Json
    curve: AlphaCurve
    alpha: Alpha
    by_hand: bool
    copies: tuple[Result, ...] = ()

    @cached_property
    def selection(self) -> Selection:
        """Contents of `selection.json`, without its history."""
        rule = Rule(alphas=(), selection=self.recipe["selection"], tolerance=self.recipe["tolerance"])
        return selection_of(self.curve, self.alpha, rule, by_hand=self.by_hand)

    @property
    def outcome(self) -> Outcome:
        """The outcome with this choice."""
        return Outcome.of(self.curve, self.selection, self.recipe)


def select_alpha(
    run_folder: str | Path,
    *,
    selection: SelectionRule | None = None,
    tolerance: float | None = None,
    alpha: float | Mapping[str, float] | None = None,
) -> PatchResult:
    """Choose alpha again from the records of a finished run, in seconds: nothing is trained or evaluated.

    Writes `selection.json`, `recipe.yaml` (with the new rule), the plots, and `patched/` with its card, as the run
    would have written them with this choice. The choices that are replaced are kept as the `history` in
    `selection.json`. The plots of example images show the same images with the answers at the new alpha; running the
    recipe again chooses new ones. It also keeps the choice: a rule because it is in the recipe, and an alpha that was
    chosen by hand until the recipe names another rule.

    Args:
        run_folder: Folder of a finished run. It may be interrupted and repeated.
        selection: Rule that chooses alpha: `supported_within`, `mean` or `entropy`; by default,
            `supported_within` if a tolerance is given, or else the rule of the recipe.
        tolerance: Loss of supported accuracy that `supported_within` allows, as a fraction: 0.01 is one point. By
            default, that of the recipe.
        alpha: Alpha to use instead of a rule, which must have been evaluated; after parallel patching, the coefficient
            of each task.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If the run is not finished, its choice cannot be changed, the alpha was not evaluated, or the
            weights are missing or are not those that were evaluated.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 0.5, 1.0])
        >>> select_alpha(tmp_path, alpha=0.5).alpha
        0.5
    """
    return save_choice(choose_again(run_folder, selection=selection, tolerance=tolerance, alpha=alpha))


def choose_again(
    run_folder: str | Path,
    *,
    selection: SelectionRule | None = None,
    tolerance: float | None = None,
    alpha: float | Mapping[str, float] | None = None,
) -> NewChoice:
    """Return what `select_alpha` would choose, without writing anything."""
    folder = RunFolder(run_folder, write=True)
    check_readable(folder.path)
    recipe, curve = _read(folder)
    if alpha is not None:
        if selection is not None or tolerance is not None:
            raise InputError("Pass either an alpha, or a selection rule and its tolerance.")
        chosen = Coefficients(alpha) if isinstance(alpha, Mapping) else canonical(alpha)
        _check_on_record(curve, chosen)
        recipe.setdefault("tolerance", DEFAULT_TOLERANCE)
        return NewChoice(folder=folder, recipe=recipe, curve=curve, alpha=chosen, by_hand=True)
    rule = _rule(recipe, selection, tolerance)
    if makes_weights(recipe) and (rule.selection, rule.tolerance) != (recipe["selection"], recipe["tolerance"]):
        raise InputError(
            f"theta_1 of the run in {folder.path} was made with its selection rule, so another "
            "rule needs another run. Choose an alpha by hand instead."
        )
    recipe |= {"selection": rule.selection, "tolerance": rule.tolerance}
    complete = curve.points("validation")  # an interrupted search may have left a combination with some tasks only
    best = rule.choose(AlphaCurve(result for result in curve.results if result.alpha in complete))
    if best is None:  # never, because `_rule` refuses `none`
        raise InputError(f"The rule `{rule.selection}` chooses no alpha.")
    return _with_combination(NewChoice(folder=folder, recipe=recipe, curve=curve, alpha=best, by_hand=False))


def save_choice(choice: NewChoice) -> PatchResult:
    """Write another choice of alpha; see `select_alpha`."""
    folder, alpha, curve = choice.folder, choice.alpha, choice.curve
    facts = folder.load_card_facts() or {}
    run = recorded_run(folder, choice.recipe)
    theta_0 = run.base.theta_0
    path = recorded_path(
        folder, choice.recipe, theta_0, lambda theta: read_tower(existing(theta, "Choosing again"), theta_0)
    )
    _check_weights(curve, alpha, path.fingerprint(alpha))
    weights: Weights = path.at(alpha)
    with folder.claimed(choice.recipe):
        log = ResultLog(folder.path)
        for copy in choice.copies:
            log.append(copy)
        ensemble = AlphaCurve.from_run(folder.path, name=ENSEMBLE) if (folder.path / ENSEMBLE).exists() else None
        save_plots(run, curve, alpha, ensemble, rule=choice.selection["rule"])
        facts["examples"] = plot_saved_examples(folder, curve, alpha)
        model = save_chosen(run, alpha, weights, selection=choice.selection, facts=facts)
        redraw_report(folder)
    return PatchResult(alpha=alpha, curve=curve, run_folder=folder.path, model=model)


def _read(folder: RunFolder) -> tuple[Json, AlphaCurve]:
    """Return the recipe and the results of a finished run whose choice can be changed."""
    if not folder.recipe.exists():
        raise InputError(f"{folder.path} has no {folder.recipe.name}. Pass the output_dir of a run.")
    recipe = folder.load_recipe()
    if recipe.get("strategy") == "sequential":
        raise InputError(
            f"The run in {folder.path} is sequential: each step chose its own alpha, and the records are of the model "
            "after each step, so another choice needs another run. Run `hf-paint patch` with another `selection` and "
            "another output_dir."
        )
    if folder.load_card_facts() is None:
        raise InputError(
            f"{folder.path} contains no finished run: it has no {folder.card_facts.name}. Run the same `hf-paint "
            "patch` again; it keeps what is there."
        )
    return recipe, AlphaCurve.from_run(folder.path)


def _rule(recipe: Mapping[str, object], selection: SelectionRule | None, tolerance: float | None) -> Rule:
    """Return the rule to choose by: what was asked for, and else the rule of the recipe."""
    stored = str(recipe.get("selection", DEFAULT_RULE))
    name = selection or (DEFAULT_RULE if tolerance is not None else stored)
    rule = next((rule for rule in RULES if rule == name), None)
    if rule is None:
        what = "The recipe has no selection rule" if selection is None else f"Unknown selection rule '{name}'"
        raise InputError(f"{what}.{did_you_mean(name, RULES)} Pass one of {', '.join(RULES)}, or an alpha.")
    if rule != DEFAULT_RULE:
        if tolerance is not None:
            raise InputError(f"The rule `{rule}` has no tolerance. Remove it, or choose by `{DEFAULT_RULE}`.")
        return Rule(alphas=(), selection=rule)
    allowed = float(str(recipe.get("tolerance", DEFAULT_TOLERANCE))) if tolerance is None else tolerance
    check_tolerance(allowed)
    return Rule(alphas=(), selection=rule, tolerance=allowed)


def _check_on_record(curve: AlphaCurve, alpha: Alpha) -> None:
    """Check that every patching and supported task was evaluated at an alpha, on validation or on test images."""
    on_record = dict.fromkeys([*curve.points("validation"), *curve.points("test")])
    if alpha not in on_record:
        known = "; ".join(map(format_alpha, on_record)) or "none"
        raise InputError(f"{alpha_phrase(alpha)} was not evaluated in this run. Choose one of: {known}.")


def _with_combination(choice: NewChoice) -> NewChoice:
    """Return a choice of alpha 0 in a search for coefficients as the combination whose coefficients are all 0."""
    names = [*next((a for a in choice.curve.points("validation") if isinstance(a, Coefficients)), ())]
    if isinstance(choice.alpha, Coefficients) or not names:
        return choice
    nothing, curve = Coefficients(dict.fromkeys(names, 0.0)), choice.curve
    zeros = [replace(result, alpha=nothing) for result in curve.results if result.alpha == 0.0]
    copies = tuple(z for z in zeros if curve.get(nothing, z.role, z.task, z.split) is None)
    extended = AlphaCurve([*curve.results, *copies], folder=curve.folder)
    return replace(choice, alpha=nothing, curve=extended, copies=copies)


def _check_weights(curve: AlphaCurve, alpha: Alpha, fingerprint: str) -> None:
    """Check that weights are those that were evaluated."""
    measured = {result.weights for result in curve.results if result.alpha == alpha}
    if measured != {fingerprint}:
        raise InputError(
            f"The weights at {alpha_phrase(alpha)} are not those that this run evaluated: its theta_1, or a model "
            "that it was made of, has changed. Run `hf-paint patch` in another folder."
        )
