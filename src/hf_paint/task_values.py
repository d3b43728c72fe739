"""The keys of a task YAML as the values of a `Task`."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from hf_paint.corruptions import Corruption
from hf_paint.definitions import DEFAULTS, check_keys, read_groups, read_keys, read_names
from hf_paint.errors import InputError
from hf_paint.splits import ClassSplit, Splits
from hf_paint.typographic import TypographicAttack


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
        raise InputError(f"The task {text} cannot be read: {' '.join(str(error).split())}") from error
    return definition
