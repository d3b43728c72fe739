"""Files and folders that are complete or absent."""

import json
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from hf_paint.errors import InputError, one_line


Json: TypeAlias = dict[str, Any]
"""A JSON object or a YAML mapping."""


def read_json(path: Path) -> Json | None:
    """Read a JSON object; None if the file does not exist.

    Raises:
        InputError: If the file holds something else.
    """
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must hold a JSON object.")
    return value


def read_recipe(path: str | Path) -> Json:
    """Read a recipe YAML.

    Raises:
        InputError: If the file cannot be read or is not a mapping.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The recipe {path} cannot be read: {one_line(error)}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"The recipe {path} must be a mapping of keys to values.")
    return recipe


def save_atomically(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write a file under a temporary name, which is then renamed: the file is complete or absent."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    save(partial)
    partial.replace(path)


def save_folder_atomically(folder: Path, save: Callable[[Path], None]) -> None:
    """Let `save` fill a folder under a temporary name, which then replaces any older one."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""

    def save(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    save_atomically(path, save)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file whole, indented and with a newline at its end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
