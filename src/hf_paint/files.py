"""Files and folders that are complete or absent."""

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from hf_paint.errors import InputError


def read_recipe(path: str | Path) -> dict[str, Any]:
    """Read a recipe YAML.

    Raises:
        InputError: If the file cannot be read or is no mapping.
    """
    try:
        recipe = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The recipe {path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"The recipe {path} does not hold a mapping of keys to values.")
    return recipe


def save_atomically(path: Path, save: Callable[[Path], None]) -> None:
    """Let `save` write a file, which gets its name when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    save(partial)
    partial.replace(path)


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
