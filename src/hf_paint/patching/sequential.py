"""Patching one task after another, from the patched model of the previous step (PAINT, Section 5) or by projection."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.data.read_once import reading_once
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.precision import PrecisionChoice
from hf_paint.evaluation.prepared_task import PreparedTask, num_images
from hf_paint.evaluation.sweep import evaluate_at
from hf_paint.merging.path import Steps
from hf_paint.models.stored import StoredTower
from hf_paint.patching.base import Base
from hf_paint.patching.concerns import warn_of_concerns
from hf_paint.patching.fine_tuning import make_theta_1
from hf_paint.patching.finish import finish
from hf_paint.patching.line import sweep_and_finish
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.orders import patch_orders
from hf_paint.patching.processes import wait_for_everyone, with_progress
from hf_paint.patching.progress import say_progress
from hf_paint.patching.projecting import project_theta_1
from hf_paint.patching.recipe import Recipe, Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import count, stages_of
from hf_paint.patching.start import prepare, resolve
from hf_paint.patching.tracking import tracked
from hf_paint.results.alphas import DEFAULT_ALPHAS, Alpha, Coefficients, total
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.progress import begin_stage, stages
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE
from hf_paint.tasks.registry import TaskLike


@with_progress
@reading_once()
def patch_sequential(
    model: str | Path | PreTrainedModel,
    patching_tasks: Sequence[TaskLike],
    supported_tasks: Sequence[TaskLike],
    args: TrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = DEFAULT_RULE,
    tolerance: float = DEFAULT_TOLERANCE,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on one task after another.

    Each step fine-tunes the patched model of the previous step on its own task. Its alpha is chosen on the validation
    images of the supported tasks and of the patching tasks so far; `supported_within` measures the loss relative to
    the model before the first step. With one task, the result is the same as with `patch_single`.

    With `merge="projection"`, each step instead fine-tunes theta_0 on its task. Theta_1 of a step merges the models of
    the tasks so far with `merge_by_projection`, and its alpha is a position on the line from theta_0 to this theta_1.
    The patched model is that of the last step, so it does not depend on the alphas before.

    Each step is a run in its own folder: `step-1`, `step-2` etc. The curve of the whole run is its history, which has
    the accuracy of every task before the first step and after each step, with the alphas of the steps so far.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        patching_tasks: Tasks to improve, in this order, or in random orders if `options.num_orders` is above 1.
        supported_tasks: Tasks whose accuracy must be preserved.
        args: Training arguments, used for every step.
        alphas: Alphas to evaluate in each step; 0 is always added.
        selection: Rule that chooses each alpha: `supported_within`, `mean` or `entropy` (see `AlphaCurve.select`).
        tolerance: Accuracy loss that `supported_within` allows over all steps, as a fraction: 0.01 is one point.
        options: Options that most runs leave at their defaults.

    Returns:
        The alpha of each step, the history, the run folder and the model after the last step.

    Raises:
        InputError: If an argument is invalid. Raised before training whenever possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_sequential(model_folder, [task], [other_task], args, alphas=[0.5, 1.0])
        >>> list(result.alpha)
        ['colours']
    """
    recipe = resolve(
        "sequential",
        model,
        args,
        patching_tasks=patching_tasks,
        supported_tasks=supported_tasks,
        rule=Rule(alphas=alphas, selection=selection, tolerance=tolerance),
        options=options,
    )
    return _patch_in_order(recipe) if recipe.options.num_orders == 1 else patch_orders(recipe, _patch_in_order)


def _patch_in_order(recipe: Recipe) -> PatchResult:
    """Patch the tasks of a recipe in their order."""
    with stages(stages_of(recipe)), tracked(recipe):
        run = prepare(recipe)
        with run.claimed():
            say_progress(run)
            warn_of_concerns(run)
            steps: list[PatchResult] = []
            for _ in recipe.patching_tasks:
                steps.append(_patch_step(run, steps))
            names = [task.name for task in recipe.patching_tasks]
            thetas = {name: StoredTower(step.patched) for name, step in zip(names, steps, strict=True)}
            path = Steps(run.base.theta_0, thetas)
            history = _history(run, path, steps)
            return finish(run, history, path, history.alphas[-1])


def _patch_step(run: PatchRun, before: Sequence[PatchResult]) -> PatchResult:
    """Patch one task, after the previous steps."""
    tasks, number = run.recipe.patching_tasks, len(before) + 1
    task = tasks[number - 1]
    step = PatchRun(_step_recipe(run, before), _step_tasks(run, number))
    with step.claimed():
        say_progress(step)
        projects = run.options.merge == "projection" and before
        theta_1 = project_theta_1(step, [result.run_folder for result in before]) if projects else None
        result = sweep_and_finish(step, theta_1 or make_theta_1(step, [task]))
    return replace(result, model=None)  # one model in memory is enough


def _step_recipe(run: PatchRun, before: Sequence[PatchResult]) -> Recipe:
    """Return the recipe of a step. Steps are saved in float32, so weights are rounded only once, after the last."""
    base, rule, number = run.base, run.rule, len(before) + 1
    folder = run.folder.step(number)
    options = replace(run.options, transfer_tasks=(), shift_tasks=(), save_dtype="float32", save_variants=False)
    if before:
        options = replace(options, precision=_precision(run))
    if before and run.options.merge == "sequential":
        options = replace(options, model_revision="main", base_fingerprint=None, base_model_id=None)
        start = os.path.relpath(before[-1].patched, folder.path)  # relative, so the run folder can be moved
        base = replace(Base.load(before[-1].patched, options), name=start)
        rule = replace(rule, baseline=before[0].curve.mean_accuracy(0.0, "supported", "validation"))
    tasks = run.recipe.patching_tasks[:number]
    return replace(
        run.recipe,
        strategy="single",
        step=tasks[-1].name,
        base=base,
        args=run.args.with_changes(output_dir=str(folder.path)),
        patching_tasks=tasks,
        rule=rule,
        options=options,
    )


def _precision(run: PatchRun) -> PrecisionChoice:
    """Return the precision for all steps after the first, which resolves `auto`."""
    return run.folder.step(1).load_precision() or run.options.precision


def _step_tasks(run: PatchRun, number: int) -> list[PreparedTask]:
    """Return the supported tasks and the patching tasks so far; only the last step evaluates test images."""
    names = {task.name for task in run.recipe.patching_tasks[:number]}
    tasks = [task for task in run.tasks if task.role == "supported" or task.task.name in names]
    return tasks if number == len(run.recipe.patching_tasks) else [_on_validation(task) for task in tasks]


def _on_validation(task: PreparedTask) -> PreparedTask:
    """Return a copy of a task with only its validation images."""
    return replace(task, images={split: images for split, images in task.images.items() if split == "validation"})


def _history(run: PatchRun, path: Steps, steps: Sequence[PatchResult]) -> AlphaCurve:
    """Evaluate every task before the first step and after each step."""
    begin_stage("sweep", f"{count(len(steps), 'step')}, {count(len(run.tasks), 'task')}")
    recipe = replace(run.recipe, options=replace(run.options, precision=_precision(run)))
    carrier = Carrier(path, run.base.tower(), PatchRun(recipe, run.tasks).evaluator(*path.ends))
    log = run.log()
    alphas: list[Alpha] = [0.0]
    coefficients: dict[str, float] = {}
    for name, step in zip(path.models, steps, strict=True):
        coefficients[name] = total(step.alpha or 0.0)
        alphas.append(Coefficients(coefficients))
    with carrier.evaluator.progress.over(len(alphas) * num_images(run.tasks), "Evaluating"):
        results = [
            evaluate_at(carrier, alpha, task, split, log=log)
            for alpha in alphas
            for task in run.tasks
            for split in task.images
        ]
    wait_for_everyone()  # intervals are computed from files of the main process
    return AlphaCurve(results, folder=log.folder)
