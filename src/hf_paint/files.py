"""Read and write files; files and folders are written atomically, so they are either complete or absent."""

import json
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, is_dataclass
from enum import Enum
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import yaml

from hf_paint.errors import InputError, one_line
from hf_paint.temporary import temporary_folder


Json: TypeAlias = dict[str, Any]
"""A JSON object or a YAML mapping."""
TEXT_KEYS = frozenset(
    {
        *("name", "extends", "dataset", "config", "revision", "data_files", "data_dir", "splits", "prompt"),
        *("class_names", "label_names", "class_groups", "class_subset", "only_classes", "templates"),
        *("image_column", "label_column", "group_column", "text_column"),
        *("choices_column", "question_column", "answer_column", "answer_type_column"),
    }
)
"""Keys whose values are text, as are the items of lists and the keys of mappings below them."""
_PREFIX = "tag:yaml.org,2002:"
_OTHER_TYPES = {_PREFIX + kind for kind in ("bool", "float", "int", "merge", "null", "timestamp", "value")}
_MERGE = _PREFIX + "merge"


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
        recipe = load_yaml(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The recipe {path} cannot be read: {one_line(error)}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"The recipe {path} must be a mapping of keys to values.")
    return recipe


def load_yaml(text: str) -> Any:
    """Read a YAML document, keeping names as they are written; a key without a value, or with `null`, is None.

    Raises:
        yaml.YAMLError: If the text is not valid YAML.

    Example:
        >>> load_yaml("{class_names: [no, 007, 12:30], class_groups: {1_000: [0x1F]}, label_names: null, seed: 007}")
        {'class_names': ['no', '007', '12:30'], 'class_groups': {'1_000': ['0x1F']}, 'label_names': None, 'seed': 7}
    """
    return yaml.load(text, Loader=_Loader)


class _Loader(yaml.SafeLoader):
    """Loader that reads every plain scalar below a text key as text."""

    def get_single_node(self) -> yaml.Node | None:
        node: yaml.Node | None = super().get_single_node()
        if node is not None:
            _find_texts(node)
        return node


def _find_texts(node: yaml.Node) -> None:
    """Mark the scalars below the text keys of a document as text."""
    if isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _find_texts(item)
    elif isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node)
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in TEXT_KEYS:
                _mark(value, optional=True)
            elif not (isinstance(key, yaml.ScalarNode) and key.value == "where"):  # its keys are columns of any name
                _find_texts(value)


def _refuse_repeated_keys(node: yaml.MappingNode) -> None:
    """Refuse a mapping with a key that occurs twice, of which PyYAML would keep the last value."""
    known: set[str] = set()
    for key, _ in node.value:
        if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
            if key.value in known:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' occurs twice", problem_mark=key.start_mark)
            known.add(key.value)


def _mark(node: yaml.Node, *, optional: bool = False) -> None:
    """Mark a value and all below it as text, except empty scalars and, if `optional`, other spellings of null."""
    if isinstance(node, yaml.ScalarNode):
        is_none = not node.value or (optional and node.tag == _PREFIX + "null")
        if node.style is None and node.tag in _OTHER_TYPES and not is_none:
            node.tag = _PREFIX + "str"
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _mark(item)
    elif isinstance(node, yaml.MappingNode):
        _refuse_repeated_keys(node)
        for key, value in node.value:
            if key.tag != _MERGE:  # `<<: *base` inserts the keys of another mapping
                _mark(key)
            _mark(value, optional=True)


def save_atomically(path: Path, save: Callable[[Path], None]) -> None:
    """Write a file atomically: `save(path)` writes a temporary file of the same name, which is then moved."""
    with temporary_folder(path.parent) as temporary:
        save(temporary / path.name)
        (temporary / path.name).replace(path)


def expand(path: str | Path) -> Path:
    """Return a path in which `~` stands for the home folder; that of a user who does not exist stays as it is."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (`Path.expanduser` raises an error without the user's name)


def exists(path: Path) -> bool:
    """Return whether there is a file or folder at a path; there is none at a text that cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


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
        shutil.rmtree(folder, ignore_errors=True)
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
