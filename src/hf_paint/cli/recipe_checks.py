"""Checks of what a recipe names, before torch is imported: tasks, files and folders."""

from collections.abc import Mapping
from pathlib import Path

from hf_paint.cli.recipe_paths import TASKS
from hf_paint.errors import InputError
from hf_paint.files import exists, expand, is_file
from hf_paint.results.selection import DEFAULT_RULE
from hf_paint.tasks.registry import get_tasks


def check_names(recipe: Mapping[str, object]) -> None:
    """Check that the tasks, the model and the files of a recipe may exist, without opening them.

    Raises:
        InputError: If a name stands for nothing, `strategy: single` has several patching tasks, or a selection rule
            has no supported tasks to compare.
    """
    tasks = {key: get_tasks(_texts(recipe.get(key))) for key in TASKS}
    count = len(tasks["patching_tasks"])
    if recipe.get("strategy", "single") == "single" and count > 1:
        raise InputError(
            f"`strategy: single` takes one patching task, got {count}. Set `strategy` to `joint`, "
            "`sequential` or `parallel`."
        )
    selection = recipe.get("selection", DEFAULT_RULE)
    if selection != "none" and not tasks["supported_tasks"]:
        raise InputError(
            f"`selection: {selection}` looks at what supported tasks lose, but the recipe has none. Add some, for "
            "example with `--supported_tasks cifar10`; a `single` or `joint` run may also choose no alpha, with "
            "`--selection none`."
        )
    _check_model(str(recipe["model"]))
    for file in _texts(recipe.get("baseline")):
        if file.endswith((".yaml", ".yml", ".json")) and not is_file(expand(file)):
            raise InputError(f"`baseline` names the file {file}, which does not exist. Check its path.")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _check_model(name: str) -> None:
    """Refuse a model that looks like a path but does not exist: no repository id has two slashes or a leading dot."""
    path = expand(name)
    if not exists(path) and (name.startswith((".", "/", "~")) or name.rstrip("/").count("/") > 1 or "\\" in name):
        raise InputError(
            f"The model '{name}' is neither a folder nor a Hub repository id (owner/name). Relative paths start at "
            f"{Path.cwd()}."
        )
