"""What is refused before anything is trained: methods that do not fit to the strategy, the tasks or the models."""

from collections.abc import Sequence

from hf_paint.data.splits import load_splits
from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.soups import check_names
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.fine_tuning import ingredient_arguments
from hf_paint.patching.lora import check_adapter
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.run import PatchRun
from hf_paint.results.robustness import fit_baseline
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.training.training_set import check_trainable
from hf_paint.weights.compatibility import check_alpha, check_compatible


OPTIONS_OF = {"parallel": ("search", "search_budget"), "sequential": ("num_orders",)}
"""Options that one strategy alone knows."""


def check_method(run: PatchRun, strategy: str, tasks: Sequence[Task]) -> None:
    """Refuse a method that does not fit to the strategy, to the tasks or to the models, before anything is trained.

    Raises:
        InputError: If it does not.
    """
    run.method.check(run.theta_0)
    _check_options(run)
    if run.args.use_peft:
        check_adapter(run)
    if strategy == "parallel":
        _check_parallel(run, tasks)
    else:
        _check_models(run, strategy)
    if run.method.name == "fisher" and any(task.choices_column is not None for task in tasks):
        raise InputError("The method 'fisher' draws labels among classes, which a task with `choices_column` lacks.")
    trained = _trained_on(run, strategy, tasks)
    for task in trained:
        _check_train_split(task)
    for together in [trained] if strategy == "joint" else [[task] for task in trained]:
        check_trainable(together, run.args)
    for name, given in run.options.thetas.items():
        theta = StoredTower(find_tower(given), run.theta_0)
        check_compatible(run.theta_0, theta, name)


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


def _check_options(run: PatchRun) -> None:
    """Refuse options that the method of the run would pass over."""
    method, options = run.method, run.options
    alone = next((key for key in ("train_head", "use_peft") if getattr(run.args, key)), None)
    if alone and (method.name != "interpolate" or options.ingredients or options.thetas):
        raise InputError(f"`{alone}` interpolates one fine-tuning: leave out `method`, `ingredients` and `thetas`.")
    if method.callbacks() and options.thetas:
        raise InputError(
            f"The method '{method.name}' averages along a training: leave out `thetas`, which are trained already."
        )
    if options.extrapolate and not method.extrapolates:
        raise InputError(f"The method '{method.name}' knows no alpha outside [0, 1]: leave out `extrapolate`.")


def _trained_on(run: PatchRun, strategy: str, tasks: Sequence[Task]) -> list[Task]:
    """Return the tasks whose training images the run takes: none where all models are there already."""
    options = run.options
    if strategy == "parallel":
        return [task for task in tasks if task.name not in options.thetas]
    return [*tasks] if options.ingredients or not options.thetas or run.method.name == "fisher" else []


def _check_train_split(task: Task) -> None:
    if task.splits.validation is not None and task.splits.validation == task.splits.train:
        raise InputError(f"Task '{task.name}' is to be patched, so its validation split must not be its train split.")
    if "train" not in load_splits(task, ("train",)):
        raise InputError(f"Task '{task.name}' has no train split, so it cannot be patched.")


def _check_models(run: PatchRun, strategy: str) -> None:
    """Refuse more or fewer fine-tuned models than the method is for."""
    method, options = run.method, run.options
    ingredients = ingredient_arguments(run.args, options.ingredients)
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
    if options.thetas:
        check_names(options.thetas)
    both = sorted(ingredients.keys() & options.thetas.keys())
    if both:
        raise InputError(f"'{both[0]}' is in `thetas` and among the `ingredients`.")


def _check_parallel(run: PatchRun, tasks: Sequence[Task]) -> None:
    options, names = run.options, [task.name for task in tasks]
    for name in options.thetas:
        if name not in names:
            raise InputError(f"`thetas` names '{name}', which is no patching task.{did_you_mean(name, names)}")
    if options.ingredients:
        raise InputError("`strategy: parallel` fine-tunes once on each task: leave out `ingredients`.")
    if run.method.takes == "one" and not run.method.spans:
        raise InputError(
            f"The method '{run.method.name}' is for one fine-tuned model: `strategy: parallel` takes `interpolate`, "
            "which searches a coefficient for each task, or one such as `task_arithmetic`, `ties` and `dare`."
        )
    if run.method.takes == "one":
        _check_search(run)
    elif any(getattr(options, name) != getattr(PatchOptions(), name) for name in ("search", "search_budget")):
        raise InputError(
            f"`search` and `search_budget` are about coefficients, and the method '{run.method.name}' has none: it "
            "chooses one alpha."
        )


def _check_search(run: PatchRun) -> None:
    options = run.options
    if run.selection == "none":
        raise InputError("`strategy: parallel` searches for coefficients, so it needs a `selection`.")
    if options.extrapolate:
        raise InputError("The search of coefficients stays within [0, 1]: leave out `extrapolate`.")
    if options.sweep != "full" or options.verify:
        raise InputError("`sweep` and `verify` are about a line of alphas, and `strategy: parallel` has none.")


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


def check_shifts(options: PatchOptions, strategy: str) -> None:
    """Refuse, before training, options that no report could be made with.

    Raises:
        InputError: If a baseline cannot be fitted or has no shift tasks, or there is no line for an ensemble.
    """
    if options.baseline:
        fit_baseline(options.baseline)
        if not options.shift_tasks:
            raise InputError("`baseline` tells what to expect under shift: it needs `shift_tasks`.")
    if options.compare_ensemble and strategy not in ("single", "joint"):
        raise InputError(
            "`compare_ensemble` compares along the line from theta_0 to one theta_1: it goes with `strategy: single` "
            f"and `joint`, not with `{strategy}`."
        )
    if options.compare_ensemble and options.extrapolate:
        raise InputError("An ensemble mixes logits within [0, 1]: leave out `extrapolate` or `compare_ensemble`.")
