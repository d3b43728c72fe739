"""theta_1 of a run: one fine-tuning, or what a method makes of one or several."""

from collections.abc import Sequence

from hf_paint.patching.base import Weights
from hf_paint.patching.checks import check_method, check_validation
from hf_paint.patching.fine_tuning import make_theta_1
from hf_paint.patching.finish import finish, sweep_ensemble_of
from hf_paint.patching.measurements import RunBench
from hf_paint.patching.options import PatchResult
from hf_paint.patching.run import PatchRun, resolved_recipe
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task


def sweep_and_finish(run: PatchRun, theta_1: Weights, alphas: Sequence[float], *, card: bool = True) -> PatchResult:
    """Evaluate the way from theta_0 to theta_1, choose alpha, and save what the run leaves behind."""
    path = run.method.path(run.theta_0, theta_1, RunBench(run))
    chosen = 1.0 if run.selection == "none" and run.method.chooses else None
    curve = run.sweep(path, [*alphas, chosen] if chosen else alphas)
    ensemble = sweep_ensemble_of(run, theta_1, curve.alphas)
    return finish(run, curve, path, alpha=chosen, ensemble=ensemble, card=card)


def patch_along_line(
    run: PatchRun,
    strategy: str,
    patching_tasks: Sequence[Task],
    supported_tasks: Sequence[Task | str],
    alphas: Sequence[float],
) -> PatchResult:
    """Make theta_1, evaluate the way from theta_0 to theta_1, and choose alpha: on one task, or on several."""
    supported = [get_task(task) for task in supported_tasks]
    grid = [float(alpha) for alpha in alphas]
    check_method(run, strategy, patching_tasks)
    recipe = resolved_recipe(run, patching_tasks, supported, strategy=strategy, alphas=grid)
    run.folder.check(recipe)
    run.prepare(patching_tasks, supported)
    check_validation(run)
    with run.claimed(recipe):
        return sweep_and_finish(run, make_theta_1(run, patching_tasks), alphas)
