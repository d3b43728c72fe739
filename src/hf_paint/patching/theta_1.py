"""theta_1 of a run: one fine-tuning, or what a method makes of one or several."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import PartialState
from torch import Tensor

from hf_paint.merging.interpolation import interpolate
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.bench import RunBench
from hf_paint.patching.fine_tuning import fine_tune
from hf_paint.patching.finish import finish
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.result import PatchResult
from hf_paint.patching.run import PatchRun, Weights
from hf_paint.patching.shifts import sweep_ensemble_of
from hf_paint.tasks.task import Task


FINE_TUNED = "fine-tuned"
"""The name of the only fine-tuning, where a method makes theta_1 of it."""

logger = logging.getLogger(__name__)


def make_theta_1(run: PatchRun, tasks: Sequence[Task]) -> Weights:
    """Return theta_1 by fine-tuning on tasks, as often as the ingredients say, and by the method of the run."""
    if not (run.method.merges or run.options.ingredients or run.options.thetas):
        return fine_tune(run, tasks)
    if run.folder.theta_1.exists():
        return run.read(run.folder.theta_1)
    folders = {name: find_tower(given) for name, given in run.options.thetas.items()}
    trained = ingredient_arguments(run.args, run.options.ingredients)
    for name, args in (trained or ({} if folders else {FINE_TUNED: run.args})).items():
        logger.info(f"Fine-tuning: {name}")
        fine_tune(run, tasks, run.folder.theta(name), args)
        folders[name] = run.folder.theta(name).theta_1
    return merge(run, folders)


def merge(run: PatchRun, folders: Mapping[str, Path]) -> Weights:
    """Return what the method of the run makes of fine-tuned models; it is made once and kept as theta_1."""
    made = run.folder.theta_1.exists()
    PartialState().wait_for_everyone()  # all look before one of them makes it
    if not made:
        thetas = {name: StoredTower(folder, run.theta_0) for name, folder in folders.items()}
        theta_1 = run.method.merge(run.theta_0, thetas, RunBench(run))
        run.folder.save_folder(run.folder.theta_1, lambda folder: run.save(folder, theta_1))
        PartialState().wait_for_everyone()
    return run.read(run.folder.theta_1)


def sweep_and_finish(run: PatchRun, theta_1: Weights, alphas: Sequence[float], *, card: bool = True) -> PatchResult:
    """Evaluate the way from theta_0 to theta_1, choose alpha, and save what the run leaves behind."""
    path = run.method.path(run.theta_0, theta_1, RunBench(run))
    chosen = 1.0 if run.selection == "none" and run.method.chooses else None
    curve = run.sweep(theta_1, [*alphas, chosen] if chosen else alphas, path)
    ensemble = sweep_ensemble_of(run, theta_1, curve.alphas)

    def weights_at(alpha: float) -> Mapping[str, Tensor]:
        if path is None:
            return interpolate(run.theta_0, theta_1, alpha, extrapolate=run.options.extrapolate)
        return path.at(alpha)

    return finish(run, curve, weights_at, alpha=chosen, ensemble=ensemble, card=card)
