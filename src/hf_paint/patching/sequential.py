"""Patching task after task: each step starts from the patched model of the step before (PAINT, Section 5)."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor
from transformers import CLIPModel

from hf_paint.alphas import Alpha, Coefficients, size
from hf_paint.curve import AlphaCurve
from hf_paint.errors import InputError
from hf_paint.interpolation import interpolate
from hf_paint.patching.finish import finish
from hf_paint.patching.orders import patch_orders
from hf_paint.patching.resolved import check_arguments, resolved_recipe
from hf_paint.patching.result import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun, arguments_for
from hf_paint.recipe import DEFAULT_ALPHAS
from hf_paint.stored_tower import StoredTower
from hf_paint.sweep import WeightSpan, evaluate_once
from hf_paint.tasks import Task, get_task
from hf_paint.training_args import PaintTrainingArguments


logger = logging.getLogger(__name__)


def patch_sequential(
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
    """Patch a CLIP model on one task after the other.

    theta_0 of a step is the patched model of the step before, as it was saved. A step fine-tunes on its task and
    chooses its alpha on the validation images of the supported tasks and of the tasks seen so far; `supported_within`
    counts the loss from the model that the first step started from. With one task this equals `patch_single`.

    Each step is a run in a folder of its own, `step-1`, `step-2`, ...; the curve of the whole run is its history: the
    accuracy of every task before the first step and after each, with the alphas of the steps so far.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks on which the model is to become good, in their order; `options.num_orders` runs
            several random orders instead.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments of each step.
        alphas: The alphas to evaluate in each step; 0 is always added.
        selection: `mean` or `supported_within` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1, for all steps together.
        options: What a run needs now and then.

    Returns:
        The alpha of each step, the history, the run folder and the model after the last step.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_sequential(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    check_arguments(args, alphas, tolerance)
    if selection == "none":
        raise InputError("`strategy: sequential` starts each step from a patched model, so it needs a `selection`.")
    options = options or PatchOptions()
    base = str(model) if isinstance(model, Path) else model
    tasks, supported = [get_task(task) for task in patching_tasks], [get_task(task) for task in supported_tasks]
    if options.num_orders != 1:
        rule: dict[str, Any] = {"alphas": alphas, "selection": selection, "tolerance": tolerance}
        return patch_orders(partial(patch_sequential, base, supported_tasks=supported, **rule), tasks, args, options)
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    grid = [float(alpha) for alpha in alphas]
    recipe = resolved_recipe(run, tasks, supported, strategy="sequential", alphas=grid)
    run.folder.check(recipe)
    run.prepare(tasks, supported, each=True)
    with run.claimed(recipe):
        steps = _run_steps(run, tasks, grid)
        history = _history(run, tasks, steps)
        last = StoredTower(steps[-1].run_folder / "patched")
        return finish(run, history, lambda _: last, alpha=history.alphas[-1])


def _run_steps(run: PatchRun, tasks: Sequence[Task], alphas: Sequence[float]) -> list[PatchResult]:
    """Run the steps, each from the patched model of the one before."""
    steps: list[PatchResult] = []
    for number, task in enumerate(tasks, 1):
        seen = {task.name for task in tasks[:number]}
        step = _step(run, number, steps[-1].run_folder / "patched" if steps else None)
        step.tasks = [t for t in run.tasks if t.role == "supported" or t.task.name in seen]
        step.baseline = steps[0].curve.mean_accuracy(0.0, "supported", "validation") if steps else None
        patching, supported = ([t.task for t in step.tasks if t.role == role] for role in ("patching", "supported"))
        logger.info(f"Step {number} of {len(tasks)}: {task.name}")
        with step.claimed(resolved_recipe(step, patching, supported, step=task.name, alphas=[*alphas])):
            theta_1 = step.fine_tune([task])
            curve = step.sweep(theta_1, alphas)
            weights_at = partial(interpolate, step.theta_0, theta_1)
            steps.append(replace(finish(step, curve, weights_at, card=False), model=None))
    return steps


def _step(run: PatchRun, number: int, patched: Path | None) -> PatchRun:
    """Return the run of a step: the first starts from the base of the whole run."""
    options = replace(run.options, transfer_tasks=(), shift_tasks=(), save_dtype=str(run.save_dtype).split(".")[-1])
    if patched is not None:
        options = replace(options, model_revision="main", base_fingerprint=None)
    return PatchRun(
        run.given if patched is None else str(patched),
        arguments_for(run.args, run.folder.step(number)),
        selection=run.selection,
        tolerance=run.tolerance,
        options=options,
    )


def _history(run: PatchRun, tasks: Sequence[Task], steps: Sequence[PatchResult]) -> AlphaCurve:
    """Evaluate every task before the first step and after each of them, on the models as they were saved."""
    points: dict[Alpha, Mapping[str, Tensor]] = {0.0: run.theta_0}
    chosen: dict[str, float] = {}
    for task, step in zip(tasks, steps, strict=True):
        chosen[task.name] = size(step.alpha or 0.0)
        points[Coefficients(chosen)] = StoredTower(step.run_folder / "patched")
    log, evaluator = run.log(), run.evaluator(points[Coefficients(chosen)])
    tower = run.tower()
    results = []
    for alpha, weights in points.items():
        span = WeightSpan(run.theta_0, {"patched": weights}, tower, evaluator)
        for prepared in run.tasks:
            for split in prepared.images:
                pending = evaluator.pending(prepared, split, alpha=alpha, weights=span.fingerprint(1.0))
                results.append(evaluate_once(pending, partial(span.at, 1.0), prepared, log=log, evaluator=evaluator))
    evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
    return AlphaCurve(results, folder=log.folder)
