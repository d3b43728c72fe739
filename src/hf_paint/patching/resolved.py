"""The resolved recipe of a run: what `hf-paint patch --config` needs to do the same again."""

from collections.abc import Sequence
from typing import Any

from hf_paint.errors import InputError
from hf_paint.models.stored import find_tower
from hf_paint.patching.result import PatchOptions
from hf_paint.patching.run import PatchRun
from hf_paint.patching.shifts import check_shifts
from hf_paint.repositories import pinned
from hf_paint.tasks.task import Task
from hf_paint.training_args import PaintTrainingArguments
from hf_paint.weights.compatibility import check_alpha


OPTIONS_OF = {"parallel": ("search", "search_budget"), "sequential": ("num_orders",)}
"""Options that one strategy alone knows."""


def check_arguments(
    strategy: str, args: PaintTrainingArguments, alphas: Sequence[float], tolerance: float, options: PatchOptions
) -> None:
    """Refuse what a patching run cannot use, or would pass over.

    Raises:
        InputError: If an alpha or another number is out of range, the arguments ask for a push, or an option or a
            trained head is for another strategy.
    """
    default = PatchOptions()
    for of, names in OPTIONS_OF.items():
        for name in names:
            if strategy != of and getattr(options, name) != getattr(default, name):
                raise InputError(f"`{name}` is for `strategy: {of}`, and this run is {strategy}.")
    check_shifts(options, strategy)
    if args.push_to_hub:
        raise InputError(
            "Patching does not push: leave out `push_to_hub`, and publish what it returns with "
            "push_variants(result, repo_id)."
        )
    if args.train_head and strategy != "single":
        raise InputError("`train_head` trains the head of one task, so it needs `strategy: single`.")
    _check_numbers(alphas, tolerance, options)


def _check_numbers(alphas: Sequence[float], tolerance: float, options: PatchOptions) -> None:
    for alpha in alphas:
        check_alpha(alpha, extrapolate=options.extrapolate)
    if options.num_examples < 0:
        raise InputError(f"`num_examples` is a number of images, 0 for none; got {options.num_examples}.")
    if not 0 <= tolerance < 1:
        raise InputError(f"tolerance is a fraction of 1, such as 0.01 for one point; got {tolerance}.")


def resolved_recipe(
    run: PatchRun, patching_tasks: Sequence[Task], supported_tasks: Sequence[Task], **more: Any
) -> dict[str, Any]:
    """Return the resolved recipe; `more` holds the strategy and the keys that only it knows."""
    options = run.options
    recipe = {
        "model": run.base,
        "model_revision": options.model_revision,
        "strategy": None,
        "patching_tasks": [_reference(task) for task in patching_tasks],
        "supported_tasks": [_reference(task) for task in supported_tasks],
        "transfer_tasks": [_reference(task) for task in options.transfer_tasks],
        "shift_tasks": [_reference(task) for task in options.shift_tasks],
        "alphas": None,
        "selection": run.selection,
        "tolerance": run.tolerance,
        "method": run.method.to_recipe() if run.method.name != "interpolate" else None,
        "ingredients": [dict(ingredient) for ingredient in options.ingredients],
        "thetas": {name: pinned(given, find_tower(given)) for name, given in options.thetas.items()},
        "extrapolate": options.extrapolate or None,
        "save_variants": options.save_variants,
        "save_dtype": options.save_dtype,
        "base_model_id": options.base_model_id,
        "precision": options.precision,
        "sweep": options.sweep,
        "verify": options.verify,
        "baseline": [list(pair) for pair in options.baseline],
        "compare_ensemble": options.compare_ensemble,
        "num_examples": options.num_examples,
        "base_fingerprint": run.base_fingerprint,
    } | more
    return {key: value for key, value in recipe.items() if value not in (None, [], {})} | run.args.given()


def _reference(task: Task) -> str | dict[str, Any]:
    """Return the name of a built-in task, and else the whole definition, so that an edited file is another recipe."""
    return task.name if task.source == task.name else task.to_dict()
