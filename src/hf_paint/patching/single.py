"""Patching one task (PAINT, Section 2)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import CLIPModel

from hf_paint.compatibility import check_alpha
from hf_paint.errors import InputError
from hf_paint.patching.result import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun
from hf_paint.recipe import DEFAULT_ALPHAS
from hf_paint.tasks import Task, get_task
from hf_paint.training_args import PaintTrainingArguments


def patch_single(
    model: str | Path | CLIPModel,
    patching_task: Task | str,
    supported_tasks: Sequence[Task | str],
    args: PaintTrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = "mean",
    tolerance: float = 0.01,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on one task.

    1. Fine-tune the image tower on the patching task against its frozen zero-shot head: theta_1.
    2. Evaluate `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1` on the patching and the supported tasks.
    3. Choose alpha on the validation images, and save the patched model.

    Everything is kept in `args.output_dir`; a run that was interrupted goes on where it stopped when it is called
    again with the same arguments.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_task: The task on which the model is to become good.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments.
        alphas: The alphas to evaluate; 0 is always added.
        selection: `mean`, `supported_within` or `none` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: What a run needs now and then.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 0.5, 1.0])
        >>> result.alpha in (0.0, 0.5, 1.0)
        True
    """
    options = options or PatchOptions()
    if args.push_to_hub:
        raise InputError(
            "patch_single does not push: leave out `push_to_hub`, and publish what it returns with "
            "push_variants(result, repo_id)."
        )
    for alpha in alphas:
        check_alpha(alpha)
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance is a fraction of 1, such as 0.01 for one point; got {tolerance}.")
    patching, supported = get_task(patching_task), [get_task(task) for task in supported_tasks]
    base = str(model) if isinstance(model, Path) else model
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    recipe = _recipe(run, patching, supported, alphas)
    run.folder.check(recipe)
    run.prepare(
        {
            "patching": [patching],
            "supported": supported,
            "transfer": options.transfer_tasks,
            "shift": options.shift_tasks,
        }
    )
    with run.claimed(recipe):
        theta_1 = run.fine_tune(patching)
        curve = run.sweep(theta_1, alphas)
        return run.finish(theta_1, curve)


def _recipe(
    run: PatchRun, patching_task: Task, supported_tasks: Sequence[Task], alphas: Sequence[float]
) -> dict[str, Any]:
    """Return the resolved recipe: what `hf-paint patch --config` needs to do the same again."""
    options = run.options
    recipe = {
        "model": run.base,
        "model_revision": options.model_revision,
        "strategy": "single",
        "patching_tasks": [_reference(patching_task)],
        "supported_tasks": [_reference(task) for task in supported_tasks],
        "transfer_tasks": [_reference(task) for task in options.transfer_tasks],
        "shift_tasks": [_reference(task) for task in options.shift_tasks],
        "alphas": [float(alpha) for alpha in alphas],
        "selection": run.selection,
        "tolerance": run.tolerance,
        "save_variants": options.save_variants,
        "save_dtype": options.save_dtype,
        "base_model_id": options.base_model_id,
        "precision": options.precision,
        "sweep": options.sweep,
        "verify": options.verify,
        "base_fingerprint": run.base_fingerprint,
    }
    return {key: value for key, value in recipe.items() if value not in (None, [])} | run.args.given()


def _reference(task: Task) -> str | dict[str, Any]:
    """Return the name of a built-in task, and else the whole definition, so that an edited file is another recipe."""
    return task.name if task.source == task.name else task.to_dict()
