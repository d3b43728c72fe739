"""The keys of a task YAML as the values of a `Task`."""

from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar, cast

import yaml

from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.subsets import ClassSplit, Splits
from hf_paint.tasks.typographic import TypographicAttack


NAME_LISTS = ("templates", "class_names", "label_names", "only_classes")
PARTS = {"splits": Splits, "class_split": ClassSplit, "attack": TypographicAttack, "corruption": Corruption}


def read_values(definition: Mapping[str, Any], known: Sequence[str], source: str | None) -> dict[str, Any]:
    """Return key -> value of a task, from the keys of a task YAML or from those in which it differs from another.

    Args:
        definition: The keys as they are written, completed with those of the task that it extends.
        known: The keys that a task has.
        source: The built-in name or the path that they were read from.

    Raises:
        InputError: If a key is unknown or missing, or a value cannot be used.
    """
    definition = {**DEFAULTS.get(str(definition.get("dataset")), {}), **definition}
    where = f" in {source}" if source else ""
    check_keys(definition, ["extends", "class_subset", *known], where)
    if definition.get("choices_column"):
        definition = {"templates": ["{}"]} | definition  # the texts come from the rows, as they are
    for key in ("name", "dataset", "templates"):
        if not definition.get(key):
            raise InputError(f"The task{where or ' definition'} needs the key '{key}'.")
    splits = definition.get("splits") or {}
    values = dict(definition, name=str(definition["name"]), splits=splits, source=source)
    for key in NAME_LISTS:
        if values.get(key) is not None:
            values[key] = read_names(key, values[key], where)
    if values.get("class_groups") is not None:
        groups = values["class_groups"] = read_groups(values["class_groups"], where)
        values["class_names"] = values.get("class_names") or tuple(groups)
    if not isinstance(values.get("data_files") or {}, Mapping):
        raise InputError(f"`data_files`{where} must map splits to files, such as {{test: parts.parquet}}.")
    given = {key: kind for key, kind in PARTS.items() if values.get(key) is not None}
    return values | {key: read_keys(kind, key, values[key], where) for key, kind in given.items()}


def read_inline(text: str) -> dict[str, Any] | str:
    """Return a definition that is written in braces as a mapping, and any other text as it is."""
    if not text.startswith("{"):
        return text
    try:
        definition: dict[str, Any] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"The task {text} cannot be read: {one_line(error)}") from error
    return definition


DEFAULTS: dict[str, dict[str, Any]] = {
    "typographic_folder": {"text_column": "text", "splits": {"train": None, "validation": None, "test": "test"}}
}
"""What tasks of some data sets need not say."""
Keys = TypeVar("Keys")


def read_names(key: str, names: Any, where: str) -> tuple[str, ...]:
    """Read a list of names; YAML turns an unquoted yes, no, on and off into booleans."""
    if not isinstance(names, (list, tuple)) or any(
        isinstance(n, bool) or not isinstance(n, (str, int)) for n in names
    ):
        raise InputError(f"`{key}`{where} must be a list of strings; put quotes around words such as yes and no.")
    return tuple(str(name) for name in names)


def read_keys(kind: type[Keys], key: str, values: Mapping[str, Any], where: str) -> Keys:
    """Read a mapping of a task YAML into a dataclass."""
    known = [f.name for f in fields(cast(Any, kind))]
    if not isinstance(values, Mapping):
        raise InputError(f"`{key}`{where} must be a mapping with the keys {', '.join(known)}, got {values!r}.")
    check_keys(values, known, f" in `{key}`{where}")
    missing = [f.name for f in fields(cast(Any, kind)) if f.default is MISSING and f.name not in values]
    if missing:
        raise InputError(f"`{key}`{where} needs the key '{missing[0]}'.")
    return kind(**values)


def read_groups(groups: Any, where: str) -> dict[str, tuple[str, ...]]:
    """Read the names of each class."""
    if not isinstance(groups, Mapping) or not groups or not all(groups.values()):
        raise InputError(
            f"`class_groups`{where} must map each class to its names, such as {{bike: [bicycle, tandem]}}."
        )
    return {str(name): read_names("class_groups", group, where) for name, group in groups.items()}


def check_keys(values: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    """Refuse a key that is not known, with the nearest one."""
    for key in values:
        if key not in known:
            raise InputError(f"Unknown key '{key}'{where}.{did_you_mean(str(key), known)} Keys: {', '.join(known)}.")
