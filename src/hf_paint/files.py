"""Read and write files; files and folders are written atomically, so they are either complete or absent."""

import json
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import yaml

from hf_paint.errors import InputError, one_line


Json: TypeAlias = dict[str, Any]
"""A JSON object or a YAML mapping."""


def read_json(path: Path) -> Json | None:
    """Read a JSON object, or return None if the file does not exist.

    Raises:
        InputError: If the file does not contain a JSON object.
    """
    if not path.exists():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON: {one_line(error)}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} must contain a JSON object.")
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
    """Write a file atomically: `save(path)` writes a temporary file, which is then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.partial{path.suffix}")
    save(partial)
    partial.replace(path)


def save_folder_atomically(folder: Path, save: Callable[[Path], None]) -> None:
    """Write a folder atomically: `save(path)` fills a temporary folder, which then replaces any existing one."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    save(partial)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


@contextmanager
def save_together(folder: Path, *, replaces: Sequence[str] = ()) -> Iterator[Callable[[str], Path]]:
    """Save several files under temporary names, then rename them in that order; on failure, all of them are deleted.

    Args:
        folder: Folder for the files, created if necessary.
        replaces: Glob patterns for existing files to delete before the new files are renamed.

    Yields:
        A function that takes a file name and returns the temporary path to write to.

    Example:
        >>> with save_together(tmp_path / "model", replaces=["*.json"]) as partial:
        ...     _ = partial("weights.bin").write_bytes(b"1")
        ...     _ = partial("config.json").write_text("{}")
        >>> sorted(path.name for path in (tmp_path / "model").iterdir())
        ['config.json', 'weights.bin']
    """
    partials: dict[Path, Path] = {}

    def partial(name: str) -> Path:
        return partials.setdefault(folder / name, folder / f"{name}.partial")

    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
    except BaseException:
        for path in partials.values():
            path.unlink(missing_ok=True)
        raise
    remove_files(folder, replaces, keep=partials.values())
    for final, path in partials.items():
        path.replace(final)


def remove_files(folder: Path, patterns: Sequence[str], *, keep: Collection[Path] = ()) -> None:
    """Delete the files in a folder that match any of the glob patterns, except those in `keep`."""
    for path in {path for pattern in patterns for path in folder.glob(pattern)} - set(keep):
        path.unlink()


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def save(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    save_atomically(path, save)


def write_json(path: Path, value: object) -> None:
    """Write an indented JSON file atomically, with a trailing newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
