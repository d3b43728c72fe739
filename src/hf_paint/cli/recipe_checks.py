"""Checks of what a recipe names, before torch is imported: tasks, files and folders."""

import re
from collections.abc import Mapping
from pathlib import Path

from hf_paint.cli.recipe_paths import TASKS
from hf_paint.errors import InputError
from hf_paint.tasks.registry import get_tasks


HUB_ID = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]+)?")
"""A data set on the Hub, `user/name` or `user/name:config`, which is looked up when the data are opened."""


def check_names(recipe: Mapping[str, object]) -> None:
    """Check that the tasks, the model and the files of a recipe may exist, without opening them.

    Raises:
        InputError: If a name stands for nothing, or `strategy: single` has several patching tasks.
    """
    counts = {key: sum(map(_count, _texts(recipe.get(key)))) for key in TASKS}
    if recipe.get("strategy", "single") == "single" and counts["patching_tasks"] > 1:
        raise InputError(
            f"`strategy: single` takes one patching task, got {counts['patching_tasks']}. Set `strategy` to `joint`, "
            "`sequential` or `parallel`."
        )
    _check_model(str(recipe["model"]))
    for file in _texts(recipe.get("baseline")):
        if file.endswith((".yaml", ".yml", ".json")) and not Path(file).expanduser().is_file():
            raise InputError(f"`baseline` names the file {file}, which does not exist. Check its path.")


def _texts(value: object) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _count(reference: str) -> int:
    """Return how many tasks a reference stands for; the data that it names are not opened.

    Raises:
        InputError: If it stands for nothing.
    """
    is_file = not reference.startswith("{") and Path(reference).expanduser().exists()
    is_definition = reference.endswith((".yaml", ".yml"))
    if not is_definition and (is_file or HUB_ID.fullmatch(reference)):
        return 1
    return len(get_tasks([reference]))


def _check_model(name: str) -> None:
    """Refuse a model that looks like a path but does not exist: no repository id has two slashes or a leading dot."""
    path = Path(name).expanduser()
    if not path.exists() and (name.startswith((".", "/", "~")) or name.rstrip("/").count("/") > 1 or "\\" in name):
        raise InputError(
            f"The model '{name}' is neither a folder nor a Hub repository id (owner/name). Relative paths start at "
            f"{Path.cwd()}."
        )
