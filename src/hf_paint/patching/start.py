"""The first stage of every strategy: resolve a recipe, check it and prepare its tasks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.data.guesses import open_task
from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.data.unreadable import make_all
from hf_paint.errors import InputError
from hf_paint.evaluation.prepared_task import PreparedTask, build_head, prepare_task
from hf_paint.merging.registry import read_method
from hf_paint.patching.base import Base
from hf_paint.patching.checks import check_recipe
from hf_paint.patching.content import content_of
from hf_paint.patching.method_choice import with_choice
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.processes import is_main_process
from hf_paint.patching.recipe import Recipe, Rule, Strategy
from hf_paint.patching.request import Request
from hf_paint.patching.request_checks import check_request, no_validation
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import count
from hf_paint.patching.trained_head import share_head
from hf_paint.results.identity import Identity
from hf_paint.results.progress import begin_stage
from hf_paint.results.records import Role
from hf_paint.tasks.registry import TaskLike, get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.sharding import check_launch
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.training.training_set import make_training_images


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
    if not isinstance(options, PatchOptions | None):
        raise InputError(f"`options` must be PatchOptions(...), got an object of type {type(options).__name__}.")
    request = Request(
        strategy=strategy,
        model=model,
        args=PaintTrainingArguments.of(args),
        patching_tasks=get_tasks(patching_tasks),
        supported_tasks=get_tasks(supported_tasks),
        rule=rule,
        options=_with_tasks(options or PatchOptions(), get_tasks),
        method=read_method(options.method if options else "interpolate"),
    )
    args, options = request.args, request.options
    _check_names(request)
    _check_replay(request)
    check_request(request)
    is_main_process(args)  # comes first because it sets up the processes and their device
    check_launch(args)
    recipe = Recipe(
        strategy=strategy,
        base=Base.load(model, options),
        args=args,
        patching_tasks=_opened(request.patching_tasks),
        supported_tasks=_opened(request.supported_tasks),
        rule=rule,
        options=_with_tasks(options, _opened),
        method=request.method,
    )
    started, method = Identity.load(recipe.folder), with_choice(recipe.method, recipe.folder)
    recipe = replace(
        recipe, method=method, num_processes=args.world_size if started is None else started.num_processes
    )
    check_recipe(recipe)
    recipe.folder.check(recipe.to_dict())
    return recipe


def _with_tasks(options: PatchOptions, look_up: Callable[[Sequence[TaskLike]], Sequence[Task]]) -> PatchOptions:
    """Return options whose tasks are looked up."""
    return replace(
        options,
        transfer_tasks=look_up(options.transfer_tasks),
        shift_tasks=look_up(options.shift_tasks),
        replay_tasks=look_up(options.replay_tasks),
    )


def _opened(tasks: Sequence[TaskLike]) -> list[Task]:
    """Return tasks with what their data tell, so that the recipe says what is run."""
    return [open_task(task) for task in get_tasks(tasks)]


def prepare(recipe: Recipe) -> PatchRun:
    """Load, check and decode all images to be evaluated.

    Raises:
        InputError: If the run folder contains a run of other content, a task cannot be used, images of any task
            cannot be read, or a task lacks validation images that the selection rule or the method needs.
    """
    roles: dict[Role, Sequence[Task]] = {
        "patching": recipe.patching_tasks,
        "supported": recipe.supported_tasks,
        "transfer": get_tasks(recipe.options.transfer_tasks),
        "shift": get_tasks(recipe.options.shift_tasks),
    }
    identity = Identity(num_processes=recipe.num_processes, content=content_of(recipe)).check(recipe.folder)
    model, processor = recipe.base.model, recipe.base.processor
    makers: list[Callable[[], PreparedTask | None]] = [
        partial(_read_train_images, recipe, task) for task in (*recipe.tasks_to_read, *recipe.replayed_tasks)
    ]
    described = count(sum(map(len, roles.values())), "task")
    begin_stage("heads", described)
    for role, tasks in roles.items():
        splits = ("validation", "test") if role in ("patching", "supported") else ("test",)
        prepare_one = partial(prepare_task, role=role, splits=splits, max_images=recipe.options.max_eval_images)
        for task in tasks:
            zero_shot = build_head(task, model, processor, splits=splits)
            makers.append(partial(prepare_one, task, model, processor, head=zero_shot))
    begin_stage("decode", described)
    prepared = [task for task in make_all(makers) if task is not None]
    _check_validation(recipe, prepared)
    if recipe.args.train_head:
        head, prepared = share_head(prepared)
        recipe = replace(recipe, base=recipe.base.with_head(head))
    return PatchRun(recipe, prepared, identity)


def _read_train_images(recipe: Recipe, task: Task) -> None:
    """Check that all images of a task that the run trains on can be read, before it trains on any task."""
    transform, split = PixelTransform(recipe.base.processor), load_splits(task, ("train",))["train"]
    make_training_images(split, transform, recipe.args, cache_dir=default_cache_dir())


def _check_names(request: Request) -> None:
    """Refuse two tasks of the same name."""
    others = get_tasks([*request.options.transfer_tasks, *request.options.shift_tasks])
    names = [task.name for task in (*request.patching_tasks, *request.supported_tasks, *others)]
    for name in names:
        if names.count(name) > 1:
            raise InputError(
                f"Task '{name}' is listed twice. A task can have only one role in a run; if these are different data, "
                f"name one of them: {{name: other-{name}, dataset: ...}}."
            )


def _check_replay(request: Request) -> None:
    """Refuse to replay a task that has another role than to be supported, or a supported task with other data."""
    options, supported = request.options, {task.name: task for task in request.supported_tasks}
    others: dict[str, Sequence[TaskLike]] = {
        "patching_tasks": request.patching_tasks,
        "transfer_tasks": options.transfer_tasks,
        "shift_tasks": options.shift_tasks,
    }
    for task in request.replayed_tasks:
        for key, tasks in others.items():
            if task.name in [other.name for other in get_tasks(tasks)]:
                raise InputError(
                    f"Task '{task.name}' is in both `{key}` and `replay_tasks`. Replay supported tasks, or tasks that "
                    "are not evaluated."
                )
        if task != supported.get(task.name, task):
            raise InputError(
                f"Task '{task.name}' is in both `supported_tasks` and `replay_tasks`, but with different data. Give "
                "the same in both, or name one of them differently."
            )


def _check_validation(recipe: Recipe, tasks: Sequence[PreparedTask]) -> None:
    """Reject a selection rule or method that needs validation or test images which the tasks do not have."""
    method, selection = recipe.method, recipe.rule.selection
    if selection != "none":
        for role in ("patching", "supported"):
            _check_selection(recipe, role, [task for task in tasks if task.role == role])
    patching = [task for task in tasks if task.role == "patching"]
    for split, is_needed in (("validation", method.needs_validation), ("test", method.needs_test)):
        without = [task.task.name for task in patching if split not in task.images]
        if is_needed and len(without) == len(patching):
            raise InputError(f"The method '{method.name}' needs {split} images, but no patching task has any.")
        if is_needed and without and method.reads_entropy:
            raise InputError(
                f"The method '{method.name}' needs {split} images of every patching task, but '{without[0]}' has "
                "none. Name a split for it, or draw the images from another one with `images`."
            )


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
