"""The first stage of every strategy: resolve a recipe, check it and prepare its tasks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.errors import InputError
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.merging.registry import read_method
from hf_paint.patching.base import Base
from hf_paint.patching.checks import check_recipe
from hf_paint.patching.content import content_of
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.processes import is_main_process
from hf_paint.patching.recipe import Recipe, Rule, Strategy
from hf_paint.patching.request import Request
from hf_paint.patching.request_checks import check_request, no_validation
from hf_paint.patching.run import PatchRun
from hf_paint.patching.trained_head import share_head
from hf_paint.results.identity import Identity
from hf_paint.results.records import Role
from hf_paint.tasks.registry import TaskLike, get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.sharding import check_launch
from hf_paint.training.training_args import PaintTrainingArguments


def resolve(
    strategy: Strategy,
    model: str | Path | PreTrainedModel,
    args: TrainingArguments,
    *,
    patching_tasks: Sequence[TaskLike],
    supported_tasks: Sequence[TaskLike],
    rule: Rule,
    options: PatchOptions | None,
) -> Recipe:
    """Load the base, run all checks that need no images, and return the recipe of the run.

    Raises:
        InputError: If an argument is invalid, or the run folder contains a run of a different recipe.
    """
    request = Request(
        strategy=strategy,
        model=model,
        args=PaintTrainingArguments.of(args),
        patching_tasks=get_tasks(patching_tasks),
        supported_tasks=get_tasks(supported_tasks),
        rule=rule,
        options=_with_tasks(options or PatchOptions()),
        method=read_method(options.method if options else "interpolate"),
    )
    args, options = request.args, request.options
    check_request(request)
    is_main_process(args)  # comes first because it sets up the processes and their device
    check_launch(args)
    recipe = Recipe(
        strategy=strategy,
        base=Base.load(model, options),
        args=args,
        patching_tasks=request.patching_tasks,
        supported_tasks=request.supported_tasks,
        rule=rule,
        options=options,
        method=request.method,
    )
    started = Identity.load(recipe.folder)
    recipe = replace(recipe, num_processes=args.world_size if started is None else started.num_processes)
    check_recipe(recipe)
    recipe.folder.check(recipe.to_dict())
    return recipe


def _with_tasks(options: PatchOptions) -> PatchOptions:
    """Return options whose tasks are looked up."""
    return replace(
        options, transfer_tasks=get_tasks(options.transfer_tasks), shift_tasks=get_tasks(options.shift_tasks)
    )


def prepare(recipe: Recipe) -> PatchRun:
    """Load, check and decode all images to be evaluated.

    Raises:
        InputError: If the run folder contains a run of other content, a task cannot be used, or a task lacks
            validation images that the selection rule or the method needs.
    """
    roles: dict[Role, Sequence[Task]] = {
        "patching": recipe.patching_tasks,
        "supported": recipe.supported_tasks,
        "transfer": get_tasks(recipe.options.transfer_tasks),
        "shift": get_tasks(recipe.options.shift_tasks),
    }
    _check_names([task.name for tasks in roles.values() for task in tasks])
    identity = Identity(num_processes=recipe.num_processes, content=content_of(recipe)).check(recipe.folder)
    model, processor = recipe.base.model, recipe.base.processor
    prepared = []
    for role, tasks in roles.items():
        splits = ("validation", "test") if role in ("patching", "supported") else ("test",)
        prepared += [
            prepare_task(task, model, processor, role=role, splits=splits, max_images=recipe.options.max_eval_images)
            for task in tasks
        ]
    _check_validation(recipe, prepared)
    if recipe.args.train_head:
        head, prepared = share_head(prepared)
        recipe = replace(recipe, base=recipe.base.with_head(head))
    return PatchRun(recipe, prepared, identity)


def _check_names(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"Task '{name}' is listed twice. A task can have only one role in a run.")


def _check_validation(recipe: Recipe, tasks: Sequence[PreparedTask]) -> None:
    """Reject a selection rule or method that needs validation images if the tasks have none."""
    method, selection = recipe.method, recipe.rule.selection
    if selection != "none":
        for role in ("patching", "supported"):
            _check_selection(recipe, role, [task for task in tasks if task.role == role])
    has_validation = any("validation" in task.images for task in tasks if task.role == "patching")
    if method.needs_validation and not has_validation:
        raise InputError(f"The method '{method.name}' needs validation images, but no patching task has any.")
    if method.needs_selection and selection == "none":
        raise InputError(f"With `score: selection`, the method '{method.name}' needs a `selection` other than `none`.")


def _check_selection(recipe: Recipe, role: Role, tasks: Sequence[PreparedTask]) -> None:
    """Require validation images for one task of each role, or for every patching task that gets its own alpha."""
    each = recipe.strategy == "sequential" or recipe.searches
    without = [task.task.name for task in tasks if "validation" not in task.images]
    if len(without) == len(tasks):
        raise InputError(no_validation(recipe.rule.selection, role, each=each))
    if each and role == "patching" and without:
        raise InputError(
            f"Task '{without[0]}' has no validation images for choosing its coefficient. Name a validation split, or "
            "set `strategy: joint`."
        )
