"""Patching task after task: each step starts from the patched model of the step before (PAINT, Section 5)."""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from hf_paint.errors import InputError
from hf_paint.evaluation.carrier import WeightSpan
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.models.stored import StoredTower
from hf_paint.patching.checks import check_arguments, check_method, check_validation
from hf_paint.patching.fine_tuning import make_theta_1
from hf_paint.patching.finish import finish
from hf_paint.patching.line import sweep_and_finish
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.orders import draw_orders, patch_orders
from hf_paint.patching.run import PatchRun, resolved_recipe
from hf_paint.results.alphas import DEFAULT_ALPHAS, Alpha, Coefficients, size
from hf_paint.results.curve import AlphaCurve
from hf_paint.tasks.registry import get_task
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments, arguments_for


logger = logging.getLogger(__name__)


def patch_sequential(
    model: str | Path | PreTrainedModel,
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

    theta_0 of a step is the patched model of the step before. A step fine-tunes on its task and
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
    options = options or PatchOptions()
    check_arguments("sequential", args, alphas, tolerance, options)
    if selection == "none":
        raise InputError("`strategy: sequential` starts each step from a patched model, so it needs a `selection`.")
    base = str(model) if isinstance(model, Path) else model
    tasks, supported = [get_task(task) for task in patching_tasks], [get_task(task) for task in supported_tasks]
    orders = draw_orders(tasks, options.num_orders, seed=args.seed) if options.num_orders != 1 else []
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    check_method(run, "sequential", tasks)
    grid, number = [float(alpha) for alpha in alphas], options.num_orders if orders else None
    recipe = resolved_recipe(run, tasks, supported, strategy="sequential", alphas=grid, num_orders=number)
    run.folder.check(recipe)
    if orders:
        rule: dict[str, Any] = {"alphas": alphas, "selection": selection, "tolerance": tolerance}
        rule["options"] = replace(options, num_orders=1)
        with run.claimed(recipe):
            return patch_orders(
                lambda order, args: patch_sequential(base, order, supported, args, **rule), orders, args
            )
    run.prepare(tasks, supported, own_validation=True)
    check_validation(run)
    with run.claimed(recipe):
        steps = _run_steps(run, tasks, grid)
        history = _history(run, tasks, steps)
        last = StoredTower(steps[-1].patched)
        return finish(run, history, lambda _: last, alpha=history.alphas[-1])


def _run_steps(run: PatchRun, tasks: Sequence[Task], alphas: Sequence[float]) -> list[PatchResult]:
    """Run the steps, each from the patched model of the one before."""
    steps: list[PatchResult] = []
    for number, task in enumerate(tasks, 1):
        step = _step(run, number)
        seen = {seen.name for seen in tasks[:number]}
        step.tasks = [t for t in run.tasks if t.role == "supported" or t.task.name in seen]
        step.tasks = step.tasks if number == len(tasks) else [_on_validation(t) for t in step.tasks]
        step.baseline = steps[0].curve.mean_accuracy(0.0, "supported", "validation") if steps else None
        patching, supported = ([t.task for t in step.tasks if t.role == role] for role in ("patching", "supported"))
        start = {}
        if number > 1:  # by a relative path, so that the run may be moved
            start["model"] = os.path.relpath(run.folder.step(number - 1).patched, step.folder.path)
        recipe = resolved_recipe(step, patching, supported, step=task.name, alphas=[*alphas], **start)
        logger.info(f"Step {number} of {len(tasks)}: {task.name}")
        with step.claimed(recipe):
            theta_1 = make_theta_1(step, [task])
            steps.append(replace(sweep_and_finish(step, theta_1, alphas, card=False), model=None))
        precision = step.folder.load_precision() or run.options.precision  # `auto` is decided in the first step
        run.options = replace(run.options, precision=precision)
    return steps


def _step(run: PatchRun, number: int) -> PatchRun:
    """Return the run of a step; its models are in float32, so that what is published is rounded once."""
    options = replace(run.options, transfer_tasks=(), shift_tasks=(), save_dtype="float32", save_variants=False)
    if number > 1:
        options = replace(options, model_revision="main", base_fingerprint=None, base_model_id=None)
    return PatchRun(
        run.given if number == 1 else str(run.folder.step(number - 1).patched),
        arguments_for(run.args, run.folder.step(number).path),
        selection=run.selection,
        tolerance=run.tolerance,
        options=options,
        folder=run.folder.step(number),
    )


def _on_validation(task: PreparedTask) -> PreparedTask:
    """Return a task without its test images, which say nothing in a step on the way."""
    return replace(task, images={split: images for split, images in task.images.items() if split == "validation"})


def _history(run: PatchRun, tasks: Sequence[Task], steps: Sequence[PatchResult]) -> AlphaCurve:
    """Evaluate every task before the first step and after each of them."""
    thetas = {task.name: StoredTower(step.patched) for task, step in zip(tasks, steps, strict=True)}
    log, evaluator = run.log(), run.evaluator(thetas[tasks[-1].name])
    span = WeightSpan(run.theta_0, thetas, run.tower(), evaluator)
    points: list[tuple[Alpha, Alpha]] = [(0.0, 0.0)]  # what the history calls a model, and where it is
    chosen: dict[str, float] = {}
    for task, step in zip(tasks, steps, strict=True):
        chosen[task.name] = size(step.alpha or 0.0)
        points.append((Coefficients(chosen), Coefficients({task.name: 1.0})))
    results = [
        evaluate_at(span, at, task, split, log=log, evaluator=evaluator, alpha=alpha)
        for alpha, at in points
        for task in run.tasks
        for split in task.images
    ]
    evaluator.accelerator.wait_for_everyone()  # the intervals read what the main process writes
    return AlphaCurve(results, folder=log.folder)
