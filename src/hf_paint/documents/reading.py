"""Read JSON and YAML within limits of size, depth and aliases; whatever is wrong is an `InputError`.

Files of a run, of a model or of the Hub may be damaged or hostile. A document is read only if it consists of mappings
with text keys that are written once, lists, text that can be encoded, numbers, true, false and null.
"""

import json
import re
from pathlib import Path
from typing import Any, TypeAlias

from hf_paint.documents.limits import MOST_BYTES, MOST_LEVELS, TOO_DEEP, check_digits, check_text
from hf_paint.documents.yaml_loader import FAULTS, PlainLoader, explain
from hf_paint.errors import InputError, JobError, one_line


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
"""Keys of recipes and tasks whose values are text, as are the items of lists and the keys of mappings below them."""
_ESCAPED = re.compile(r"\\u(0000|[dD][89a-fA-F])")


def read_json(path: Path, *, limit: int = MOST_BYTES) -> Json | None:
    """Read a JSON object, or return None if the file does not exist.

    Args:
        path: Path to the file.
        limit: Size of the largest file that is read, in bytes.

    Raises:
        InputError: If the file does not contain a JSON object, or is beyond the limits of this module.
        JobError: If the file cannot be read.
    """
    if not path.exists():
        return None
    value = parse_json(read_bytes(path, str(path), limit), str(path), limit=limit)
    if not isinstance(value, dict):
        raise InputError(f"{path} must contain a JSON object.")
    return value


def parse_json(content: str | bytes, what: str, *, limit: int = MOST_BYTES) -> object:
    """Read a JSON document.

    Args:
        content: The document; bytes must be UTF-8.
        what: What holds the document, for messages, e.g. its path.
        limit: Size of the largest document that is read, in bytes or characters.

    Raises:
        InputError: If it is not valid JSON, or is beyond the limits of this module.

    Example:
        >>> parse_json('{"alpha": 0.5}', "card.json")
        {'alpha': 0.5}
    """
    try:
        text = _decoded(content, limit)
        value: object = json.loads(text, parse_int=_integer)
        if text.count("[") + text.count("{") > MOST_LEVELS:
            _check_levels(value)
        if _ESCAPED.search(text):
            check_text(json.dumps(value, ensure_ascii=False))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{what} is not valid JSON: {one_line(error)}") from error
    return value


def read_recipe(path: str | Path) -> Json:
    """Read a recipe YAML.

    Raises:
        InputError: If the file cannot be read or is not a mapping.
    """
    recipe = read_yaml(Path(path), f"The recipe {path}", text_keys=TEXT_KEYS)
    if not isinstance(recipe, dict):
        raise InputError(f"The recipe {path} must be a mapping of keys to values.")
    return recipe


def read_yaml(path: Path, what: str, *, text_keys: frozenset[str] = frozenset()) -> object:
    """Read the YAML document in a file; see `parse_yaml`.

    Raises:
        InputError: If there is no such file, it is not valid YAML, or is beyond the limits of this module.
        JobError: If the file cannot be read.
    """
    return parse_yaml(read_bytes(path, what), what, text_keys=text_keys)


def parse_yaml(content: str | bytes, what: str, *, text_keys: frozenset[str] = frozenset()) -> object:
    """Read a YAML document; keys and dates are text.

    Args:
        content: The document; bytes must be UTF-8.
        what: What holds the document, for messages, e.g. `The recipe mnist.yaml`.
        text_keys: Keys whose values are text as they are written, as are the items of lists and the keys of mappings
            below them. A key without a value, or with `null`, is None.

    Raises:
        InputError: If it is not valid YAML, or is beyond the limits of this module.

    Example:
        >>> parse_yaml("{class_names: [no, 007, 12:30], label_names: null, seed: 007}", "a.yaml", text_keys=TEXT_KEYS)
        {'class_names': ['no', '007', '12:30'], 'label_names': None, 'seed': 7}
    """
    try:
        loader = PlainLoader(_decoded(content, MOST_BYTES), text_keys)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except FAULTS as error:
        raise InputError(f"{what} cannot be read: {explain(error)}") from error


def read_bytes(path: Path, what: str, limit: int = MOST_BYTES) -> bytes:
    """Read a file, but not more than a byte beyond the limit.

    Raises:
        InputError: If there is no such file.
        JobError: If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return file.read(limit + 1)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError, ValueError) as error:
        raise InputError(f"{what} cannot be read: {one_line(error)}") from error
    except OSError as error:
        raise JobError(f"{what} cannot be read: {one_line(error)}") from error


def _decoded(content: str | bytes, limit: int) -> str:
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit:,} bytes")
    return content.decode("utf-8-sig") if isinstance(content, bytes) else content


def _integer(text: str) -> int:
    check_digits(text)
    return int(text)


def _check_levels(value: object) -> None:
    level: list[object] = [value]
    for _ in range(MOST_LEVELS):
        parts = (x.values() if isinstance(x, dict) else x for x in level if isinstance(x, (dict, list)))
        level = [part for values in parts for part in values]
    if level:
        raise ValueError(TOO_DEEP)
