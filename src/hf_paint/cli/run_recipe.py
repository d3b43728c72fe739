"""Running a recipe from the command line."""

import sys
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from itertools import pairwise
from typing import Any

from hf_paint.cli.dry_run import print_plan
from hf_paint.cli.outcome import print_place, report
from hf_paint.cli.push import publish
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.cli.recipe_keys import RecipeParser, read_keys
from hf_paint.documents.reading import parse_yaml
from hf_paint.errors import InputError
from hf_paint.hub.push import create_repository
from hf_paint.merging.base import Method
from hf_paint.merging.registry import read_method
from hf_paint.patching.options import PatchOptions, PatchResult
from hf_paint.patching.patch_call import SEVERAL
from hf_paint.patching.plan import plan
from hf_paint.patching.recipe import Rule
from hf_paint.patching.single import patch_single
from hf_paint.repositories import is_repo_id
from hf_paint.results.robustness_table import read_baseline
from hf_paint.results.run_names import default_run_folder
from hf_paint.tasks.registry import get_tasks
from hf_paint.tasks.task import Task
from hf_paint.training.hub_mixin import check_hub_strategy
from hf_paint.training.training_args import PaintTrainingArguments


def run_recipe(config: str | None, flags: list[str]) -> None:
    """Run a recipe from a YAML file, with its keys overridden by flags.

    Args:
        config: Path to the recipe, or None to use flags only.
        flags: Command line flags, for example `["--learning_rate", "3e-5", "--alphas", "0", "0.5"]`.

    Raises:
        InputError: If a key or value is invalid, or a model or task cannot be used.
    """
    recipe, args = parse_recipe(config, flags)
    options = _options(recipe)
    method = read_method(options.method)
    push = _takes_push(recipe, method, args)
    if args.process_index == 0:
        sys.stdout.write(f"Run folder: {args.output_dir}\n")
        sys.stdout.flush()
    patching, supported = (get_tasks(tasks) for tasks in (recipe.patching_tasks, recipe.supported_tasks))
    if push and args.process_index == 0:
        create_repository(str(args.hub_model_id), private=args.hub_private_repo)  # fails early without write access
    result = _strategy(recipe, patching)(supported, args, **_rule(recipe), options=options)
    if args.process_index == 0:
        outcome = result.outcome
        report(outcome, result.curve, result.run_folder, end=method.end)
        print_place(outcome, result.run_folder)
        if push:
            repo_id, private = str(args.hub_model_id), args.hub_private_repo
            publish(result, repo_id, private=private, base_model_id=recipe.base_model_id)


def plan_recipe(config: str | None, flags: list[str]) -> None:
    """Check a recipe as `run_recipe` would, and print what it is about to do instead of doing it.

    Raises:
        InputError: If a key or value is invalid, or a model or task cannot be used.
    """
    recipe, args = parse_recipe(config, flags)
    options = _options(recipe)
    _takes_push(recipe, read_method(options.method), args)
    tasks = {"patching_tasks": get_tasks(recipe.patching_tasks), "supported_tasks": get_tasks(recipe.supported_tasks)}
    rule = Rule(**_rule(recipe))
    found = plan(recipe.model, **tasks, args=args, strategy=recipe.strategy, rule=rule, options=options)
    if args.process_index == 0:
        sys.stdout.write(f"Run folder: {args.output_dir}\n")
        print_plan(found, [*(["--config", config] if config else []), *flags])


def _takes_push(recipe: PatchRecipe, method: Method, args: PaintTrainingArguments) -> bool:
    """Take `push_to_hub` from the arguments, because it publishes the finished run, not the trainer's model."""
    push = bool(args.push_to_hub)
    if push:
        _check_push(recipe, method, args)
    args.push_to_hub = False
    return push


def _rule(recipe: PatchRecipe) -> dict[str, Any]:
    return {"alphas": recipe.alphas, "selection": recipe.selection, "tolerance": recipe.tolerance}


def _strategy(recipe: PatchRecipe, patching_tasks: Sequence[Task]) -> "partial[PatchResult]":
    """Return the strategy function of a recipe, bound to its model and patching tasks."""
    if recipe.strategy == "single":
        return partial(patch_single, recipe.model, patching_tasks[0])
    return partial(SEVERAL[recipe.strategy], recipe.model, patching_tasks)


def _options(recipe: PatchRecipe) -> PatchOptions:
    """Return the recipe keys that are options; the other keys are arguments of the strategy function."""
    names = {f.name for f in fields(PatchOptions)} & {f.name for f in fields(PatchRecipe)}
    options = {name: getattr(recipe, name) for name in names}
    options |= {key: get_tasks(options[key]) for key in ("transfer_tasks", "shift_tasks", "replay_tasks")}
    options["baseline"] = read_baseline(recipe.baseline)
    thetas = _from_yaml("thetas", recipe.thetas or "{}")
    if not isinstance(thetas, dict) or not all(isinstance(name, str) for name in thetas.values()):
        raise InputError(f"`thetas` must map tasks to models, like {{mnist: some/model}}; got {recipe.thetas!r}.")
    ingredients = [_from_yaml("ingredients", ingredient) for ingredient in recipe.ingredients]
    method = _from_yaml("method", recipe.method)
    return PatchOptions(**options | {"thetas": thetas, "ingredients": ingredients, "method": method})


def _from_yaml(key: str, text: str) -> Any:
    return parse_yaml(text, f"The value of `{key}`")


def parse_recipe(config: str | None, flags: list[str]) -> tuple[PatchRecipe, PaintTrainingArguments]:
    """Parse a recipe and flags.

    Raises:
        InputError: If a key or flag is unknown (the closest match is suggested), missing, or has an invalid value.
    """
    keys = read_keys(config, flags)
    _hide_token(sys.argv)
    recipe = PatchRecipe(**dict[str, Any](keys.recipe))
    training: dict[str, Any] = dict(keys.training)
    if not training.get("output_dir"):
        names = [task.name for task in get_tasks(recipe.patching_tasks)]
        training["output_dir"] = default_run_folder(recipe.model, names, recipe.strategy)
    return recipe, PaintTrainingArguments.read(training)


def _hide_token(command: list[str]) -> None:
    """Remove the Hub token from a command line, which experiment trackers record."""
    for position, (flag, value) in enumerate(pairwise(command), 1):
        if flag == "--hub_token" and not value.startswith("--"):
            command[position] = "<hidden>"
        elif value.startswith("--hub_token="):
            command[position] = "--hub_token=<hidden>"


def print_every_field() -> None:
    """Print the help of every recipe key and training field."""
    RecipeParser(PatchRecipe, PaintTrainingArguments).print_help()


def _check_push(recipe: PatchRecipe, method: Method, args: PaintTrainingArguments) -> None:
    """Reject a `push_to_hub` that would fail after the run, and arguments that it would ignore."""
    check_hub_strategy(args)
    if "/" not in (args.hub_model_id or ""):
        raise InputError("`push_to_hub` needs the Hub repository id in `hub_model_id`, for example me/clip-mnist.")
    if recipe.base_model_id is None and not is_repo_id(recipe.model):
        raise InputError("`push_to_hub` needs a Hub repository id in `base_model_id` if `model` is a folder.")
    if recipe.selection == "none" and not method.chooses:
        raise InputError("`push_to_hub` publishes the chosen alpha, so it needs a `selection`.")
    if args.hub_revision is not None or args.hub_token is not None:
        raise InputError(
            "A finished run is published by the logged-in user, on branches named after the alphas. Remove "
            "`hub_revision` and `hub_token`."
        )
