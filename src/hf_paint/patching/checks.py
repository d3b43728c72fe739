"""Checks that reject incompatible arguments, options, methods and models before training."""

import logging

from hf_paint.adapters.lora import check_lora_layers, import_peft
from hf_paint.data.splits import load_splits
from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.soups import check_names
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.towers import image_tower
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Recipe, Rule, Strategy
from hf_paint.results.robustness import fit_baseline
from hf_paint.results.search import check_search
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.training.training_set import check_trainable
from hf_paint.weights.compatibility import check_alpha, check_compatible


OPTIONS_OF: dict[Strategy, tuple[str, ...]] = {"parallel": ("search", "search_budget"), "sequential": ("num_orders",)}
"""Options that apply to one strategy only."""

logger = logging.getLogger(__name__)


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
    if not 0 <= rule.tolerance < 1:
        raise InputError(f"`tolerance` must be at least 0 and below 1 (0.01 is one point), got {rule.tolerance}.")


def check_recipe(recipe: Recipe) -> None:
    """Reject a method that is incompatible with the strategy, the tasks or the models.

    Raises:
        InputError: If the method is incompatible, or a task cannot be trained on.
    """
    recipe.method.check(recipe.base.theta_0)
    _check_options(recipe)
    if recipe.args.use_peft:
        _check_adapter(recipe)
    if recipe.strategy == "parallel":
        _check_parallel(recipe)
    else:
        _check_models(recipe)
    if recipe.method.name == "fisher" and any(isinstance(task, MultipleChoiceTask) for task in recipe.patching_tasks):
        raise InputError(
            "The method 'fisher' samples class labels, but a task with `choices_column` has no classes. Choose "
            "another method."
        )
    trained = recipe.trained_tasks
    for task in trained:
        _check_train_split(task)
    for together in [trained] if recipe.strategy == "joint" else [[task] for task in trained]:
        check_trainable(together, recipe.args)
    theta_0 = recipe.base.theta_0
    for name, model in recipe.options.thetas.items():
        check_compatible(theta_0, StoredTower(find_tower(model), theta_0), name)


def _check_options(recipe: Recipe) -> None:
    """Reject options that the method would ignore."""
    method, options, args = recipe.method, recipe.options, recipe.args
    several = method.name != "interpolate" or options.ingredients or options.thetas
    for key in ("train_head", "use_peft"):
        if getattr(args, key) and several:
            raise InputError(
                f"`{key}` supports only plain interpolation with one fine-tuned model. Remove `method`, `ingredients` "
                "and `thetas`."
            )
    if method.callbacks() and options.thetas:
        raise InputError(
            f"The method '{method.name}' averages weights during training, but `thetas` are trained already. "
            "Remove them."
        )
    if options.extrapolate and not method.extrapolates:
        raise InputError(f"The method '{method.name}' supports only alphas in [0, 1]. Remove `extrapolate`.")


def _check_adapter(recipe: Recipe) -> None:
    """Reject an adapter that cannot be trained, and warn if its config will not name the base."""
    import_peft()
    check_lora_layers(image_tower(recipe.base.model), recipe.args)
    if recipe.base.on_hub(recipe.options.base_model_id)[0] is None:
        logger.warning(
            f"The base {recipe.base.name} is not on the Hub, so the adapter config will not name it. If the base has "
            "a Hub repository id, pass it as base_model_id."
        )


def _check_models(recipe: Recipe) -> None:
    """Reject a number of fine-tuned models that the method does not support."""
    method, options = recipe.method, recipe.options
    ingredients = ingredient_arguments(recipe.args, options.ingredients)
    num_models = len(ingredients) + len(options.thetas) or 1
    if recipe.strategy == "sequential" and options.thetas:
        raise InputError("`strategy: sequential` fine-tunes a model in each step. Remove `thetas`.")
    if method.takes == "several" and num_models < 2:
        raise InputError(
            f"The method '{method.name}' merges several fine-tuned models, got {num_models}. Set `thetas`, "
            "`strategy: parallel` or `ingredients`, for example {learning_rate: [1e-5, 3e-5], seed: [0, 1]}."
        )
    if method.takes == "one" and num_models > 1:
        raise InputError(
            f"The method '{method.name}' takes one fine-tuned model, got {num_models}. Average them with a method "
            "like `greedy_soup`, or remove `ingredients`."
        )
    if options.thetas:
        check_names(options.thetas)
    both = sorted(ingredients.keys() & options.thetas.keys())
    if both:
        raise InputError(f"'{both[0]}' names both a model in `thetas` and one of the `ingredients`.")


def _check_parallel(recipe: Recipe) -> None:
    method, options, names = recipe.method, recipe.options, [task.name for task in recipe.patching_tasks]
    for name in options.thetas:
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"`thetas` names '{name}', which is not a patching task.{hint}")
    if options.ingredients:
        raise InputError("`strategy: parallel` fine-tunes once on each task. Remove `ingredients`.")
    if recipe.searches:
        _check_search(recipe)
    elif _is_set(options, "search") or _is_set(options, "search_budget"):
        raise InputError(
            f"`search` and `search_budget` control the coefficient search, but the method '{method.name}' has a "
            "single alpha. Remove them."
        )


def _check_search(recipe: Recipe) -> None:
    method, options = recipe.method, recipe.options
    if not method.spans:
        raise InputError(
            f"The method '{method.name}' takes one fine-tuned model. With `strategy: parallel`, use `interpolate`, "
            "which searches for one coefficient per task, or a merging method like `task_arithmetic`, `ties` "
            "or `dare`."
        )
    if recipe.rule.selection == "none":
        raise InputError("`strategy: parallel` searches for coefficients, so it needs a `selection`.")
    if options.extrapolate:
        raise InputError("The coefficient search stays within [0, 1]. Remove `extrapolate`.")
    if options.sweep != "full" or options.verify:
        raise InputError("`sweep` and `verify` need a line of alphas. Remove them, or change `strategy: parallel`.")
    names = [task.name for task in recipe.patching_tasks]
    check_search(names, budget=options.search_budget, method=options.search, diagonal=recipe.rule.alphas)


def _check_train_split(task: Task) -> None:
    if task.splits.validation is not None and task.splits.validation == task.splits.train:
        raise InputError(
            f"Task '{task.name}' is a patching task, so its validation split must differ from its train split."
        )
    if "train" not in load_splits(task, ("train",)):
        raise InputError(f"Task '{task.name}' has no train split, so it cannot be patched.")
