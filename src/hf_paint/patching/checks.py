"""Checks that reject incompatible arguments, options, methods and models before training."""

import logging
from collections.abc import Mapping

from hf_paint.adapters.lora import check_lora_layers, import_peft
from hf_paint.data.overlaps import refuse_shared_rows, warn_of_equal_images
from hf_paint.data.splits import Split, load_splits
from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.soups import check_names
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.towers import image_tower
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.method_choice import tried_alphas
from hf_paint.patching.processes import is_main_process
from hf_paint.patching.recipe import Recipe
from hf_paint.results.search import check_search
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task
from hf_paint.training.training_set import check_trainable
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import finite, is_finite, overflow
from hf_paint.weights.headers import HEAD


logger: logging.Logger = logging.getLogger(__name__)


def check_recipe(recipe: Recipe) -> None:
    """Reject a method that is incompatible with the strategy, the tasks or the models.

    Raises:
        InputError: If the method is incompatible, or a task cannot be trained on.
    """
    recipe.method.check(recipe.base.theta_0)
    if recipe.args.use_peft:
        _check_adapter(recipe)
    if recipe.strategy == "parallel":
        _check_parallel(recipe)
    else:
        _check_models(recipe)
    choices = any(isinstance(task, MultipleChoiceTask) for task in recipe.patching_tasks)
    if recipe.method.samples_labels and choices:
        raise InputError(
            f"The method '{recipe.method.name}' samples class labels, but a task with `choices_column` has no "
            "classes. Choose another method."
        )
    several = [task.name for task in recipe.patching_tasks if isinstance(task, MultiLabelTask)]
    if recipe.method.reads_entropy and several:
        raise InputError(
            f"The method '{recipe.method.name}' minimises the entropy of predictions, which is not defined for the "
            f"multi-label task '{several[0]}'. Choose another method."
        )
    trained = recipe.trained_tasks
    replayed = recipe.replayed_tasks
    for task in (*recipe.tasks_to_read, *replayed):
        _check_train_split(task)
    _check_overlaps(recipe)
    for together in [trained] if recipe.strategy == "joint" else [[task] for task in trained]:
        check_trainable(together, recipe.args, replayed)
    _check_weights(recipe)


def _check_weights(recipe: Recipe) -> None:
    """Reject models that do not fit together, that hold NaN or inf, or that `save_dtype` would round to inf."""
    theta_0, dtype = recipe.base.theta_0, recipe.save_dtype
    for name, x in recipe.base.model.state_dict().items():
        finite(name, x, f"the base {recipe.base.name}")
        if x.is_floating_point() and not is_finite(x.to(dtype)):
            raise overflow(name, dtype)
    for name, model in recipe.options.thetas.items():
        folder = find_tower(model)
        if (folder / HEAD).exists():
            logger.warning(
                f"The trained head of {name} ({model}) is not used: `thetas` takes the image tower, and accuracies "
                "are those of the zero-shot head. `hf-paint interpolate` mixes heads, too."
            )
        theta = StoredTower(folder, theta_0)
        check_compatible(theta_0, theta, name)
        for tensor in theta:
            finite(tensor, theta[tensor], name)


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
    ingredients, num_models = ingredient_arguments(recipe.args, options.ingredients), recipe.num_models
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
    options, names = recipe.options, [task.name for task in recipe.patching_tasks]
    for name in options.thetas:
        if name not in names:
            hint = did_you_mean(name, names)
            raise InputError(f"`thetas` names '{name}', which is not a patching task.{hint}")
    if options.ingredients:
        raise InputError("`strategy: parallel` fine-tunes once on each task. Remove `ingredients`.")
    if recipe.method.takes == "several" and len(names) < 2:
        raise InputError(
            f"The method '{recipe.method.name}' merges several fine-tuned models, but `strategy: parallel` fine-tunes "
            f"one on each patching task, of which there is {len(names)}. Add a patching task, or use `strategy: "
            "single`."
        )
    if recipe.searches:
        _check_search(recipe)
    tried_alphas(recipe)


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
    if options.sweep != "full":
        raise InputError("`sweep` and `verify` need a line of alphas. Remove them, or change `strategy: parallel`.")
    names = [task.name for task in recipe.patching_tasks]
    check_search(names, budget=options.search_budget, method=options.search, diagonal=recipe.rule.alphas)


def _check_train_split(task: Task) -> None:
    if task.splits.validation is not None and task.splits.validation == task.splits.train:
        raise InputError(
            f"Task '{task.name}' is trained on, so its validation split must differ from its train split."
        )
    if "train" not in load_splits(task, ("train",)):
        raise InputError(f"Task '{task.name}' has no train split, so it cannot be trained on.")


def _check_classes(task: Task, splits: Mapping[str, Split]) -> None:
    """Require two classes to tell apart; the candidates of a multiple-choice task are no classes."""
    names = {name for split in splits.values() for name in split.class_names}
    if len(names) == 1 and not isinstance(task, MultipleChoiceTask):
        raise InputError(
            f"Task '{task.name}' has only one class, '{names.pop()}', so every answer would be correct. Add "
            "pictures of other classes, or list all candidates as `class_names`."
        )


def _check_overlaps(recipe: Recipe) -> None:
    """Compare the splits that the run uses: those it evaluates and, for tasks that it trains on, the train split."""
    tasks = {task.name: task for task in (*recipe.patching_tasks, *recipe.supported_tasks, *recipe.replayed_tasks)}
    with_train = [*recipe.tasks_to_read, *recipe.replayed_tasks]
    for task in tasks.values():
        splits = load_splits(task, ("train", "validation", "test") if task in with_train else ("validation", "test"))
        _check_classes(task, splits)
        refuse_shared_rows(splits)
        if is_main_process(recipe.args):
            warn_of_equal_images(splits)
