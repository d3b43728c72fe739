"""Patching each task by itself and adding the changes up, with one coefficient per task (PAINT, Section 5)."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from torch import Tensor
from tqdm.auto import tqdm
from transformers import CLIPModel

from hf_paint.alphas import Alpha, Coefficients, format_alpha
from hf_paint.curve import AlphaCurve
from hf_paint.errors import InputError, did_you_mean
from hf_paint.interpolation import combine
from hf_paint.patching.finish import finish
from hf_paint.patching.resolved import check_arguments, resolved_recipe
from hf_paint.patching.result import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun
from hf_paint.patching.shifts import check_shifts
from hf_paint.recipe import DEFAULT_ALPHAS
from hf_paint.results import Result
from hf_paint.search import search_coefficients
from hf_paint.stored_tower import StoredTower, find_tower
from hf_paint.sweep import WeightSpan, evaluate_once
from hf_paint.tasks import Task, get_task
from hf_paint.training_args import PaintTrainingArguments


Thetas = Mapping[str, Mapping[str, Tensor]]
LOSS_WEIGHT = 10
"""What a point of supported accuracy beyond the tolerance costs in the search, in points of patching accuracy."""

logger = logging.getLogger(__name__)


def patch_parallel(
    model: str | Path | CLIPModel,
    patching_tasks: Sequence[Task | str],
    supported_tasks: Sequence[Task | str],
    args: PaintTrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = "mean",
    tolerance: float = 0.01,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on several tasks, each by itself.

    1. Fine-tune the image tower on each task, always from theta_0: theta_i. Models that exist already are taken from
       `options.thetas` instead.
    2. Search one coefficient per task for `theta_0 + sum_i a_i (theta_i - theta_0)` on the validation images.
    3. Choose among all combinations that were evaluated, and save the patched model.

    The theta_i are read from their files one tensor at a time, so that the memory does not grow with the tasks.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks on which the model is to become good.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments of each fine-tuning.
        alphas: The uniform coefficients that the search begins with; with one task all of them are evaluated.
        selection: `mean` or `supported_within` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: What a run needs now and then.

    Returns:
        The coefficient of each task, what was evaluated, the run folder and the patched model.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_parallel(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    check_arguments(args, alphas, tolerance)
    if selection == "none":
        raise InputError("`strategy: parallel` searches for coefficients, so it needs a `selection`.")
    options = options or PatchOptions()
    check_shifts(options, "parallel")
    base = str(model) if isinstance(model, Path) else model
    tasks, supported = [get_task(task) for task in patching_tasks], [get_task(task) for task in supported_tasks]
    _check_thetas(options.thetas, tasks)
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    found = {task: find_tower(name) for task, name in options.thetas.items()}
    keys = {"search": options.search, "search_budget": options.search_budget}
    grid, given = [float(alpha) for alpha in alphas], {task: str(folder) for task, folder in found.items()}
    recipe = resolved_recipe(run, tasks, supported, strategy="parallel", alphas=grid, thetas=given, **keys)
    run.folder.check(recipe)
    run.prepare(tasks, supported)
    with run.claimed(recipe):
        for task in tasks:
            if task.name not in found:
                logger.info(f"Fine-tuning on {task.name}")
                run.fine_tune([task], run.folder.theta(task.name))
        folders = {task.name: found.get(task.name, run.folder.theta(task.name).theta_1) for task in tasks}
        thetas = {name: StoredTower(folder, run.theta_0) for name, folder in folders.items()}
        curve, chosen = _search(run, thetas, alphas)
        plot = {"split": "validation", "connected": False}
        return finish(run, curve, partial(combine, run.theta_0, thetas), alpha=chosen, plot=plot)


def _search(run: PatchRun, thetas: Thetas, alphas: Sequence[float]) -> tuple[AlphaCurve, Coefficients]:
    """Search on the validation images; then evaluate what is reported, each task's own theta_i among it, on all."""
    log, evaluator = run.log(), run.evaluator(*thetas.values())
    span = WeightSpan(run.theta_0, thetas, run.tower(), evaluator)
    results: list[Result] = []

    def evaluate(alpha: Alpha, wanted: Sequence[str], names: Sequence[str] | None = None) -> None:
        for task in run.tasks:
            for split in task.images:
                if split in wanted and (names is None or task.task.name in names):
                    pending = evaluator.pending(task, split, alpha=alpha, weights=span.fingerprint(alpha))
                    results.append(evaluate_once(pending, partial(span.at, alpha), task, log=log, evaluator=evaluator))

    evaluate(0.0, ("validation", "test"))
    budget = run.options.search_budget
    with tqdm(
        total=budget, desc="Searching coefficients", unit="evaluation", disable=not run.folder.write
    ) as progress:

        def score(coefficients: Mapping[str, float]) -> float:
            alpha = Coefficients(coefficients)
            progress.set_postfix_str(format_alpha(alpha))
            evaluate(alpha, ("validation",))
            progress.update()
            return _score(run, AlphaCurve(results), alpha)

        search_coefficients(
            score, [*thetas], budget=budget, method=run.options.search, diagonal=alphas, seed=run.args.seed
        )
    alpha = run.choose(AlphaCurve(results))
    chosen = alpha if isinstance(alpha, Coefficients) else Coefficients(dict.fromkeys(thetas, alpha))
    evaluate(chosen, ("validation", "test"))
    for name in thetas:
        evaluate(Coefficients({name: 1.0}), ("test",), [name])
    evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
    return AlphaCurve(results, folder=log.folder), chosen


def _score(run: PatchRun, curve: AlphaCurve, alpha: Alpha) -> float:
    """Return what the search maximises: the selection rule, with a price on a supported loss that it would refuse."""
    patching, supported = (curve.mean_accuracy(alpha, role, "validation") for role in ("patching", "supported"))
    if run.selection == "mean":
        return float(patching + supported) / 2
    lost = float(curve.mean_accuracy(0.0, "supported", "validation") - supported) - run.tolerance
    return float(patching) - LOSS_WEIGHT * max(0.0, lost)


def _check_thetas(thetas: Mapping[str, str], tasks: Sequence[Task]) -> None:
    names = [task.name for task in tasks]
    for name in thetas:
        if name not in names:
            raise InputError(f"`thetas` names '{name}', which is no patching task.{did_you_mean(name, names)}")
