"""theta_1 of a run: one fine-tuning, or what a method makes of one or several."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from accelerate import PartialState
from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.interpolation import interpolate
from hf_paint.patching.bench import RunBench
from hf_paint.patching.fine_tuning import fine_tune
from hf_paint.patching.finish import finish
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.result import PatchResult
from hf_paint.patching.run import PatchRun, Weights
from hf_paint.patching.shifts import sweep_ensemble_of
from hf_paint.stored_tower import StoredTower, find_tower
from hf_paint.tasks import Task


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
        run.carry(theta_1)
        run.folder.save_folder(run.folder.theta_1, run.save)
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


def check_method(run: PatchRun, strategy: str, tasks: Sequence[Task]) -> None:
    """Refuse a method that does not fit to the strategy or to the models, before anything is trained.

    Raises:
        InputError: If it does not.
    """
    method, options = run.method, run.options
    method.check(run.theta_0)
    if run.args.train_head and (method.name != "interpolate" or options.ingredients or options.thetas):
        raise InputError(
            "`train_head` interpolates one fine-tuning of head and image tower: leave out `method`, `ingredients` and "
            "`thetas`."
        )
    ingredients = ingredient_arguments(run.args, options.ingredients)
    if strategy == "parallel":
        _check_parallel(run, tasks)
    else:
        num_models = len(ingredients) + len(options.thetas) or 1
        if strategy == "sequential" and options.thetas:
            raise InputError("`thetas` are for one step; `strategy: sequential` has one for each task.")
        if method.takes == "several" and num_models < 2:
            raise InputError(
                f"The method '{method.name}' is for several fine-tuned models, got {num_models}: give `ingredients`, "
                "such as {learning_rate: [1e-5, 3e-5], seed: [0, 1]}, `thetas`, or `strategy: parallel`."
            )
        if method.takes == "one" and num_models > 1:
            raise InputError(
                f"The method '{method.name}' is for one fine-tuned model, got {num_models}. Average them with a "
                "method such as `greedy_soup`, or leave out `ingredients`."
            )
        both = sorted(ingredients.keys() & options.thetas.keys())
        if both:
            raise InputError(f"'{both[0]}' is in `thetas` and among the `ingredients`.")
    if options.extrapolate and not method.is_line:
        raise InputError(f"The method '{method.name}' knows no alpha outside [0, 1]: leave out `extrapolate`.")


def check_validation(run: PatchRun) -> None:
    """Refuse a method that needs validation images which the patching tasks lack.

    Raises:
        InputError: If it does.
    """
    rule = getattr(run.method, "score", "patching")
    if run.method.needs_validation:
        if not any("validation" in task.images for task in run.tasks if task.role == "patching"):
            raise InputError(f"The method '{run.method.name}' needs validation images of a patching task.")
        if rule == "selection" and run.selection == "none":
            raise InputError(f"`score: selection` of the method '{run.method.name}' needs a `selection`.")


def _check_parallel(run: PatchRun, tasks: Sequence[Task]) -> None:
    options, names = run.options, [task.name for task in tasks]
    for name in options.thetas:
        if name not in names:
            raise InputError(f"`thetas` names '{name}', which is no patching task.{did_you_mean(name, names)}")
    if options.ingredients:
        raise InputError("`strategy: parallel` fine-tunes once on each task: leave out `ingredients`.")
    if run.method.takes == "one" and (run.method.merges or not run.method.is_line):
        raise InputError(
            f"The method '{run.method.name}' is for one fine-tuned model: `strategy: parallel` takes `interpolate`, "
            "which searches a coefficient for each task, or one such as `task_arithmetic`, `ties` and `dare`."
        )
    if run.method.takes == "one" and options.extrapolate:
        raise InputError("The search of coefficients stays within [0, 1]: leave out `extrapolate`.")
