"""Choosing a merge: several are tried on the validation images, each at a few alphas, and the best is taken."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction

from hf_paint.errors import InputError
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.merging.auto import Auto
from hf_paint.merging.base import Measurements, Method
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span
from hf_paint.merging.registry import read_method
from hf_paint.patching.processes import wait_for_everyone
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha, Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result
from hf_paint.results.run_files import TRIED
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.search import thin_out
from hf_paint.results.tables import number, percent
from hf_paint.results.tried_methods import ENTROPY_FORM, best, reached


logger: logging.Logger = logging.getLogger(__name__)


def choose_method(
    run: PatchRun, methods: Mapping[str, Method], thetas: Mapping[str, Weights], measurements: Measurements
) -> Method:
    """Return the merge that the rule of the run chooses, and record it in the recipe of the run.

    Each merge is computed once and evaluated on the validation images at the alphas of `tried_alphas`. Alpha 0 is
    evaluated first. What an interrupted run has evaluated is not evaluated again.

    Args:
        run: Patching run.
        methods: Label -> merge to try.
        thetas: Model -> weights after fine-tuning.
        measurements: Measurements of the run, for the merges.
    """
    trials = _Trials(run, thetas, measurements)
    total = trials.num_images(len(methods))
    with trials.carrier.passes(total), trials.evaluator.progress.over(total, "Trying merges"):
        trials.evaluate(0.0)
        for label, method in methods.items():
            trials.try_merge(label, method)
    wait_for_everyone()
    chosen = _best(run, AlphaCurve(trials.results))
    if isinstance(run.method, Auto):
        recipe = replace(run.recipe, method=replace(run.method, chosen=methods[chosen]))
        run.folder.save_recipe(recipe.to_dict())
    return methods[chosen]


def _best(run: PatchRun, curve: AlphaCurve) -> str:
    """Return the label of the best merge, and log what each of them reached."""

    def choose(among: AlphaCurve, baseline: Fraction) -> Alpha | None:
        return replace(run.rule, baseline=baseline).choose(among)

    chosen = best(curve, choose)
    for found in reached(curve, choose) if run.folder.write else ():
        sides = {} if found.sides is None else found.sides._asdict()
        values = [f"{role} {percent(value)} %" for role, value in sides.items()]
        values += [f"entropy {number(found.entropy, ENTROPY_FORM)}"] if run.rule.selection == "entropy" else []
        alpha = format_alpha(found.alpha)
        logger.info(f"{found.method}: {', '.join(values)} on the validation images at alpha {alpha}.")
    if run.folder.write:
        logger.info(f"The method is {chosen}, which does best by the rule `{run.rule.selection}`.")
    return chosen


def with_choice(method: Method, folder: RunFolder) -> Method:
    """Return the method of a run; for `auto`, with the merge that an earlier start of the run chose."""
    if not isinstance(method, Auto) or not folder.recipe.exists():
        return method
    stored = folder.load_recipe().get("method")
    if not isinstance(stored, Mapping) or method.name not in stored:
        return method
    earlier = read_method(stored)
    return earlier if isinstance(earlier, Auto) and replace(earlier, chosen=method.chosen) == method else method


def tried_alphas(recipe: Recipe) -> list[float]:
    """Return the alphas at which each merge is tried: as many of the run's as `search_budget` allows, evenly spaced.

    Raises:
        InputError: If the budget does not allow one alpha for each merge, or there is no alpha to try.
    """
    number, budget = len(tried_labels(recipe)), recipe.options.search_budget
    if not number:
        return []
    alphas = [alpha for alpha in recipe.rule.alphas if alpha]
    if budget <= number:
        raise InputError(
            f"`search_budget` must be at least {number + 1} to try {number} merges at one alpha each, after the model "
            f"before patching; got {budget}. Raise it, or name fewer merges: {{auto: {{methods: [ties, tsv]}}}}."
        )
    if not alphas:
        raise InputError("`method: auto` tries each merge at some of the `alphas`, but 0 is the only one. Add others.")
    return thin_out(alphas, (budget - 1) // number)


def tried_labels(recipe: Recipe) -> list[str]:
    """Return the labels of the merges that a run tries; empty unless its method is to be chosen."""
    return list(recipe.method.candidates) if isinstance(recipe.method, Auto) else []


def num_trials(recipe: Recipe) -> int:
    """Return how many models are evaluated to choose the merge of a run, the model before patching included."""
    alphas = tried_alphas(recipe)
    return 1 + len(tried_labels(recipe)) * len(alphas) if alphas else 0


class _Trials:
    """Evaluations of merges on the validation images.

    Args:
        run: Patching run.
        thetas: Model -> weights after fine-tuning.
        measurements: Measurements of the run, for the merges.
    """

    def __init__(self, run: PatchRun, thetas: Mapping[str, Weights], measurements: Measurements) -> None:
        self.results: list[Result] = []
        self.evaluator = run.evaluator(*thetas.values())
        self._theta_0, self._thetas, self._measurements = run.base.theta_0, thetas, measurements
        self._nothing = Span(self._theta_0, {})
        self.carrier = Carrier(self._nothing, run.base.tower(), self.evaluator)
        self._alphas = tried_alphas(run.recipe)
        self._tasks = [task for task in run.tasks if "validation" in task.images]
        self._log = run.log(TRIED)

    def num_images(self, num_methods: int) -> int:
        """Return how many images pass through the image tower to try this number of merges."""
        return (1 + num_methods * len(self._alphas)) * sum(len(task.images["validation"]) for task in self._tasks)

    def try_merge(self, label: str, method: Method) -> None:
        """Merge the models and evaluate the result at every alpha to try."""
        self.carrier.follow(self._nothing)  # one merge is in memory at a time
        merged = method.merge(self._theta_0, self._thetas, self._measurements)
        self.carrier.follow(Span(self._theta_0, {label: merged}))
        for alpha in self._alphas:
            self.evaluate(Coefficients({label: alpha}))

    def evaluate(self, alpha: Alpha) -> None:
        """Evaluate the model at an alpha of the merge that is in memory."""
        self.evaluator.progress.note(format_alpha(alpha))
        self.results += [evaluate_at(self.carrier, alpha, task, "validation", log=self._log) for task in self._tasks]
