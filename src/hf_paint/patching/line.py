"""Patching along the path from theta_0 to one theta_1: evaluate every alpha and choose one."""

from collections.abc import Callable, Sequence

from tqdm.auto import tqdm

from hf_paint.evaluation.adaptive_sweep import sweep_path_adaptively, verified
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.sweep import sorted_alphas, sweep_path
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import WeightPath
from hf_paint.patching.concerns import warn_of_concerns
from hf_paint.patching.fine_tuning import make_theta_1
from hf_paint.patching.finish import finish, save_model, sweep_ensemble
from hf_paint.patching.measurements import RunMeasurements
from hf_paint.patching.options import PatchResult
from hf_paint.patching.processes import wait_for_everyone
from hf_paint.patching.progress import say_progress
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import describe_sweep, stages_of
from hf_paint.patching.start import prepare
from hf_paint.patching.tracking import tracked
from hf_paint.results.alphas import Coefficients, by_name
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.progress import begin_stage, stages


def patch_along_line(recipe: Recipe) -> PatchResult:
    """Compute theta_1 for the patching tasks and patch along the path to it."""
    with stages(stages_of(recipe)), tracked(recipe):
        run = prepare(recipe)
        with run.claimed():
            say_progress(run)
            warn_of_concerns(run)
            return sweep_and_finish(run, make_theta_1(run, recipe.patching_tasks))


def sweep_and_finish(run: PatchRun, theta_1: Weights) -> PatchResult:
    """Evaluate the path from theta_0 to theta_1, choose alpha and save the results."""
    begin_stage("sweep", describe_sweep(len({0.0, *run.rule.alphas}), run.tasks))
    path = run.method.path(run.base.theta_0, theta_1, RunMeasurements(run))
    fixed = 1.0 if run.rule.selection == "none" and run.method.chooses else None
    curve = sweep_run(run, path, run.rule.alphas if fixed is None else [*run.rule.alphas, fixed])
    ensemble = sweep_ensemble(run, theta_1, curve.alphas) if run.options.compare_ensemble else None
    if run.options.save_variants:
        for alpha in tqdm(by_name(curve.alphas).values(), "Saving variants", unit="model"):
            save_model(run, run.folder.variant(alpha), path.at(alpha))
    chosen = run.rule.choose(curve) if fixed is None else fixed
    return finish(run, curve, path, chosen, ensemble=ensemble)


def sweep_run(run: PatchRun, path: WeightPath, alphas: Sequence[float]) -> AlphaCurve:
    """Evaluate every alpha of a path on every task of a run."""
    log = run.log()
    carrier = Carrier(path, run.base.tower(), run.evaluator(*path.ends))

    def evaluate(sweep: Callable[..., AlphaCurve], alphas: Sequence[float]) -> AlphaCurve:
        curve = sweep(carrier, sorted_alphas(alphas, extrapolate=run.options.extrapolate), run.tasks, log=log)
        wait_for_everyone()  # intervals are computed from files of the main process
        return curve

    if run.options.sweep == "full":
        return evaluate(sweep_path, alphas)
    curve = evaluate(sweep_path_adaptively, alphas)
    if run.options.verify:
        return verified(curve, evaluate(sweep_path, alphas))
    alpha = run.rule.choose(curve)
    while not (alpha is None or isinstance(alpha, Coefficients) or alpha in curve.exact_alphas):
        exact = evaluate(sweep_path, [alpha])  # published results are exact
        curve = AlphaCurve([*curve.results, *exact.results], folder=log.folder)
        alpha = run.rule.choose(curve)
    return curve
