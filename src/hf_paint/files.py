"""Write files; files and folders are written atomically, so they are either complete or absent."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from hf_paint.errors import InputError
from hf_paint.temporary import temporary_folder


def save_atomically(path: Path, save: Callable[[Path], None]) -> None:
    """Write a file atomically: `save(path)` writes a temporary file of the same name, which is then moved."""
    with temporary_folder(path.parent) as temporary:
        save(temporary / path.name)
        (temporary / path.name).replace(path)


def expand(path: str | Path) -> Path:
    """Return a path in which `~` stands for the home folder; that of a user who cannot exist stays as it is."""
    try:
        return Path(os.path.expanduser(path))  # noqa: PTH111  (`Path.expanduser` raises an error for an unknown user)
    except ValueError:  # a null character in the user's name
        return Path(path)


def exists(path: Path) -> bool:
    """Return whether there is a file or folder at a path; there is none at a text that cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def is_file(path: Path) -> bool:
    """Return whether there is a file at a path, by the same rule."""
    return exists(path) and path.is_file()


def is_folder(path: Path) -> bool:
    """Return whether there is a folder at a path, by the same rule."""
    return exists(path) and path.is_dir()


def check_writable(folder: Path) -> None:
    """Check that a folder can be made, or written to if it exists.

    Raises:
        InputError: If it is a file or below one, or may not be written to.
    """
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        raise InputError(f"The output folder {folder} cannot be made: {nearest} is a file. Choose another output_dir.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise InputError(f"You may not write to {nearest}, so {folder} cannot be made. Choose another output_dir.")


def save_folder_atomically(folder: Path, save: Callable[[Path], None]) -> None:
    """Write a folder atomically: `save(path)` fills a temporary folder, which then replaces any existing one."""
    with temporary_folder(folder.parent) as temporary:
        partial = temporary / folder.name
        partial.mkdir()
        save(partial)
        remove_any(folder)
        partial.rename(folder)


@contextmanager
def save_together(folder: Path, *, replaces: Sequence[str] = ()) -> Iterator[Callable[[str], Path]]:
    """Save several files in a temporary folder, then move them in that order; on failure, all of them are deleted.

    Args:
        folder: Folder for the files, created if necessary.
        replaces: Glob patterns for existing files to delete before the new files are moved.

    Yields:
        A function that takes a file name and returns the temporary path to write to.

    Example:
        >>> with save_together(tmp_path / "model", replaces=["*.json"]) as partial:
        ...     _ = partial("weights.bin").write_bytes(b"1")
        ...     _ = partial("config.json").write_text("{}")
        >>> sorted(path.name for path in (tmp_path / "model").iterdir())
        ['config.json', 'weights.bin']
    """
    names: list[str] = []
    with temporary_folder(folder) as temporary:

        def partial(name: str) -> Path:
            names.append(name)
            return temporary / name

        yield partial
        remove_files(folder, replaces)
        for name in dict.fromkeys(names):
            (temporary / name).replace(folder / name)


def remove_files(folder: Path, patterns: Sequence[str], *, keep: Collection[Path] = ()) -> None:
    """Delete the files in a folder that match any of the glob patterns, except those in `keep`."""
    for path in {path for pattern in patterns for path in folder.glob(pattern)} - set(keep):
        path.unlink()


def remove_any(path: Path) -> None:
    """Delete a file or a folder with all that is in it; nothing is done if there is neither."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""

    def save(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    save_atomically(path, save)


def write_json(path: Path, value: object) -> None:
    """Write an indented JSON file atomically, with a trailing newline."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, default=plain) + "\n")


def plain(value: object) -> object:
    """Return a value as JSON and YAML store it: numpy's numbers as Python's, and objects of other types as text.

    Example:
        >>> plain({"learning_rate": np.float64(1e-5), "seed": (0, 1), "model": Path("clip")})
        {'learning_rate': 1e-05, 'seed': [0, 1], 'model': 'clip'}
    """
    if isinstance(value, (np.generic, np.ndarray)):
        return value.tolist()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if isinstance(value, Mapping):
        return {key: plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple, range)):
        return [plain(part) for part in value]
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
