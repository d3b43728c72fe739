"""Checks that reject a request before any model or data set is loaded."""

from collections.abc import Sequence
from dataclasses import fields
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints

from hf_paint.data.samples import check_max_images
from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.patching.label_checks import check_labels
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Rule, Strategy
from hf_paint.patching.request import Request
from hf_paint.patching.unread_options import check_everything_is_read
from hf_paint.results.robustness import fit_baseline
from hf_paint.results.selection import check_tolerance
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.callbacks import check_callbacks
from hf_paint.training.field_types import check_field_types
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.weights.compatibility import check_alpha
from hf_paint.weights.formats import check_model


OPTIONS_OF: dict[Strategy, tuple[str, ...]] = {
    "parallel": ("search", "search_budget"),
    "sequential": ("num_orders", "merge"),
}
"""Options that apply to one strategy only."""


def check_request(request: Request) -> None:
    """Reject what a run cannot use or would not read.

    Raises:
        InputError: If a value is unknown or out of range, an option would have no effect, a side of the selection has
            no tasks, or a model is in another format.
    """
    for part in (request.rule, request.options):
        check_field_types(part)
        check_choices(part)
    _check_callbacks(request)
    check_arguments(request.strategy, request.args, request.rule, request.options)
    _check_search_options(request)
    _check_method(request)
    check_labels(request)
    check_everything_is_read(request)
    transfer, shift = request.options.transfer_tasks, request.options.shift_tasks
    tasks = get_tasks([*request.patching_tasks, *request.supported_tasks, *transfer, *shift])
    check_max_images(request.options.max_eval_images, tasks)
    if request.rule.selection != "none":
        _check_sides(request)
    for theta in request.options.thetas.values():
        check_model(theta)


def check_choices(part: Rule | PatchOptions) -> None:
    """Check the fields that take one of several names.

    Raises:
        InputError: If a name is unknown; the message suggests the closest one.
    """
    hints = get_type_hints(type(part))
    for f in fields(part):
        kinds = (hints[f.name], *get_args(hints[f.name]))
        names = [name for kind in kinds if get_origin(kind) is Literal for name in get_args(kind)]
        value = getattr(part, f.name)
        if names and value not in names and not (value is None and NoneType in kinds):
            raise InputError(
                f"`{f.name}` must be one of {', '.join(names)}, got '{value}'.{did_you_mean(str(value), names)}"
            )


def _check_callbacks(request: Request) -> None:
    """Reject what is no callback, and a callback that changes the weights, which the recipe would not record."""
    callbacks = request.options.callbacks
    check_callbacks(callbacks)
    if any(issubclass(c if isinstance(c, type) else type(c), WeightAveraging) for c in callbacks):
        raise InputError(
            "Averaging weights is a method of the run, so that its recipe records it. Set `method: ema` or `method: "
            "swa` instead of the callback."
        )


def _check_sides(request: Request) -> None:
    """Check that both sides of the selection have a task that may have validation images."""
    each = request.strategy == "sequential" or request.searches
    sides: dict[str, Sequence[Task]] = {"patching": request.patching_tasks, "supported": request.supported_tasks}
    several = [task.name for side in sides.values() for task in side if isinstance(task, MultiLabelTask)]
    if request.rule.selection == "entropy" and several:
        raise InputError(
            f"`selection: entropy` is not defined for the multi-label task '{several[0]}': a prediction of several "
            "classes is not less certain than one of a single class. Choose by `mean` or `supported_within`."
        )
    for role, tasks in sides.items():
        if all(task.splits.validation is None for task in tasks):
            raise InputError(no_validation(request.rule.selection, role, each=each))


def no_validation(selection: str, role: str, *, each: bool) -> str:
    """Return the message for a selection rule without validation images.

    Args:
        selection: Selection rule.
        role: Role of the tasks without validation images.
        each: Whether the run chooses a coefficient for each task, so it cannot do without a rule.
    """
    example = ", for example with `--supported_tasks cifar10`" if role == "supported" else ""
    otherwise = "." if each else ", or let it choose nothing with `--selection none`."
    return (
        f"`selection: {selection}` needs validation images, but no {role} task has any. Add a {role} task{example}, "
        f"name its validation split{otherwise}"
    )


def _check_method(request: Request) -> None:
    """Reject options and arguments that the method would ignore."""
    method, options, args = request.method, request.options, request.args
    several = method.name != "interpolate" or options.ingredients or options.thetas
    for key in ("train_head", "use_peft"):
        if getattr(args, key) and several:
            raise InputError(
                f"`{key}` supports only plain interpolation with one fine-tuned model. Remove `method`, `ingredients` "
                "and `thetas`."
            )
    if options.merge == "projection" and (several or args.use_peft):
        raise InputError(
            "`merge: projection` merges the models of the tasks itself and adds up all of their weights. Remove "
            "`method`, `ingredients` and `use_peft`."
        )
    if method.callbacks() and options.thetas:
        raise InputError(
            f"The method '{method.name}' averages weights during training, but `thetas` are trained already. "
            "Remove them."
        )
    if method.tries and request.strategy != "parallel":
        raise InputError(
            f"The method '{method.name}' chooses how to merge models of different tasks, so it needs `strategy: "
            f"parallel`, got `{request.strategy}`. To choose among models of one task, use `greedy_soup`."
        )
    if method.needs_selection and request.rule.selection == "none":
        raise InputError(
            f"The method '{method.name}' compares models by the selection rule, so it needs a `selection` other than "
            "`none`."
        )
    if options.extrapolate and not method.extrapolates:
        raise InputError(f"The method '{method.name}' supports only alphas in [0, 1]. Remove `extrapolate`.")


def _check_search_options(request: Request) -> None:
    """Reject search options if the run has a single alpha, except for the budget to choose its method."""
    if request.strategy == "parallel" and not request.searches:
        for name in OPTIONS_OF["parallel"]:
            if _is_set(request.options, name) and not (name == "search_budget" and request.has_budget):
                raise InputError(
                    f"`{name}` controls the search for one coefficient per task, but the method "
                    f"'{request.method.name}' has a single alpha. Remove `{name}`."
                )


def check_arguments(strategy: Strategy, args: PaintTrainingArguments, rule: Rule, options: PatchOptions) -> None:
    """Reject arguments that the strategy cannot use or would ignore.

    Raises:
        InputError: If a number is out of range, `push_to_hub` is set, or an option or `train_head` needs a different
            strategy.
    """
    for other, names in OPTIONS_OF.items():
        for name in names:
            if strategy != other and _is_set(options, name):
                raise InputError(f"`{name}` needs `strategy: {other}`, got `strategy: {strategy}`.")
    _check_reports(options, strategy)
    if args.push_to_hub:
        raise InputError(
            "The Python patching functions do not push. Remove `push_to_hub` and publish the result with "
            "push_variants(result, repo_id)."
        )
    if args.train_head and strategy != "single":
        raise InputError("`train_head` trains the head of one task, so it needs `strategy: single`.")
    if strategy == "sequential" and rule.selection == "none":
        raise InputError("`strategy: sequential` starts each step from a patched model, so it needs a `selection`.")
    _check_numbers(rule, options)


def _is_set(options: PatchOptions, name: str) -> bool:
    return bool(getattr(options, name) != getattr(PatchOptions(), name))


def _check_reports(options: PatchOptions, strategy: Strategy) -> None:
    """Check that `baseline` can be fitted and has shift tasks, and that `compare_ensemble` has a line of alphas."""
    if options.baseline:
        fit_baseline(options.baseline)
        if not options.shift_tasks:
            raise InputError("`baseline` predicts accuracy under distribution shift, so it needs `shift_tasks`.")
    if options.compare_ensemble and strategy not in ("single", "joint"):
        raise InputError(
            "`compare_ensemble` compares along the line from theta_0 to one theta_1, so it needs `strategy: single` "
            f"or `joint`, got `{strategy}`."
        )
    if options.compare_ensemble and options.extrapolate:
        raise InputError("`compare_ensemble` supports only alphas in [0, 1]. Remove it, or remove `extrapolate`.")


def _check_numbers(rule: Rule, options: PatchOptions) -> None:
    for alpha in rule.alphas:
        check_alpha(alpha, extrapolate=options.extrapolate)
    if options.num_examples < 0:
        raise InputError(f"`num_examples` must be 0 or a positive number of images, got {options.num_examples}.")
    check_tolerance(rule.tolerance)
