"""The stages of a run, which are known before it starts."""

from collections.abc import Sequence

from hf_paint.evaluation.prepared_task import PreparedTask, num_images
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.recipe import Recipe


OPENING = ("heads", "decode")
"""Build the zero-shot heads, and decode the images to evaluate."""


def stages_of(recipe: Recipe) -> list[str]:
    """Return the stages of a run in order: `heads`, `decode`, `train`, `merge`, `sweep` and `write`.

    Sequential patching trains, sweeps and writes in every step, and then measures all steps together. By projection,
    it also merges in every step but the first.
    """
    trainings = ["train"] * _num_trainings(recipe)
    if recipe.strategy == "sequential":
        merges = ["merge"] if recipe.options.merge == "projection" else []
        later = ["train", *merges, "sweep", "write"] * (len(recipe.patching_tasks) - 1)
        return [*OPENING, "train", "sweep", "write", *later, "sweep", "write"] * recipe.options.num_orders
    return [*OPENING, *trainings, *(["merge"] if _merges(recipe) else []), "sweep", "write"]


def _merges(recipe: Recipe) -> bool:
    if recipe.strategy == "parallel":
        return not recipe.searches
    return bool(recipe.method.merges or recipe.options.ingredients or recipe.options.thetas)


def _num_trainings(recipe: Recipe) -> int:
    """Return how many models a run fine-tunes that is not sequential."""
    if recipe.strategy == "parallel":
        return len(recipe.trained_tasks)
    options = recipe.options
    return len(ingredient_arguments(recipe.args, options.ingredients)) or int(not options.thetas)


def describe_sweep(num_alphas: int, tasks: Sequence[PreparedTask]) -> str:
    """Return what a sweep is about to do."""
    return f"{num_alphas} alphas, {count(len(tasks), 'task')}, {num_images(tasks):,} images"


def count(number: int, noun: str) -> str:
    """Return a number of things, such as `1 task` or `2 tasks`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"
