"""Paths in a recipe: relative to the recipe file, or else to the working directory, like paths in flags."""

from collections.abc import Mapping
from glob import escape, iglob
from pathlib import Path
from typing import TypeAlias

from hf_paint.documents.reading import read_recipe
from hf_paint.files import exists, expand
from hf_paint.tasks.data_files import LOCAL_FILES
from hf_paint.tasks.definitions import is_built_in


Value: TypeAlias = object
PATHS = ("model", "thetas", "baseline", "deepspeed", "fsdp_config", "accelerator_config")
"""Keys whose values may be paths of files to read; `output_dir` is not among them."""
TASKS = ("patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks", "replay_tasks")
TASKS_IN_TASKS = ("corrupted", "extends")
"""Keys in the definition of a task that name another task."""
DATA_OF_TASKS = ("data_dir", "data_files")
"""Keys in the definition of a task whose values are paths, unless its data set is on the Hub."""


def read_located_recipe(config: str) -> dict[str, Value]:
    """Read a recipe and make its relative paths to existing files beside it absolute.

    What does not exist beside the recipe is left unchanged: a Hub id, a built-in name, a path relative to the working
    directory. `output_dir` is always relative to the working directory.

    Args:
        config: Path to the recipe file.

    Raises:
        InputError: If the recipe cannot be read.
    """
    path = expand(config)
    recipe, folder = read_recipe(path), path.resolve().parent
    found = {key: _locate(value, folder) for key, value in recipe.items() if key in PATHS}
    found |= {key: _locate_tasks(value, folder) for key, value in recipe.items() if key in TASKS}
    return {**recipe, **found}


def _locate(value: Value, folder: Path) -> Value:
    """Return a value with every path in it located."""
    if isinstance(value, str):
        return _find(value, folder)
    if isinstance(value, list):
        return [_locate(item, folder) for item in value]
    if isinstance(value, Mapping):
        return {key: _locate(item, folder) for key, item in value.items()}
    return value


def _locate_tasks(value: Value, folder: Path) -> Value:
    """Return the tasks of a recipe with every path located; a built-in name is no path."""
    if isinstance(value, list):
        return [_locate_tasks(item, folder) for item in value]
    if isinstance(value, Mapping):
        return _locate_definition(value, folder)
    return value if is_built_in(value) else _locate(value, folder)


def _locate_definition(definition: Mapping[str, Value], folder: Path) -> dict[str, Value]:
    """Return the definition of a task with its paths located; those of a data set on the Hub are paths there."""
    located = {key: _locate_tasks(definition[key], folder) for key in TASKS_IN_TASKS if key in definition}
    dataset = str(definition.get("dataset", LOCAL_FILES[0]))
    if dataset not in LOCAL_FILES:
        located["dataset"] = _find(dataset, folder)
    if dataset in LOCAL_FILES or dataset.startswith("."):
        located |= {key: _locate(definition[key], folder) for key in DATA_OF_TASKS if key in definition}
    return {**definition, **located}


def _find(name: str, folder: Path) -> str:
    """Return the absolute path of a file or folder, or of a glob pattern that matches some; other names unchanged."""
    if not name or name.startswith(("~", "/", "{")) or "://" in name:
        return name
    if "*" not in name:
        return str(folder / name) if exists(folder / name) else name
    found = iglob(f"{escape(str(folder))}/{name}", recursive=True)  # noqa: PTH207 - Path.glob refuses some stars
    return str(folder / name) if any(found) else name
