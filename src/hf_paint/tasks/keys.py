"""Conversion between the keys of a task YAML and the fields of a task."""

from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, TypeVar

from hf_paint.documents.reading import TEXT_KEYS, parse_yaml
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.files import plain
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.names import spelled
from hf_paint.tasks.subsets import GUESS, ClassSplit, Splits
from hf_paint.tasks.templates import GENERAL_TEMPLATES
from hf_paint.tasks.typographic import TypographicAttack


if TYPE_CHECKING:
    from hf_paint.tasks.task import Task

Part = TypeVar("Part", Splits, ClassSplit, TypographicAttack, Corruption)
ORDER = (
    *("name", "dataset", "templates", "class_names", "label_names", "class_groups", "config", "revision"),
    *("data_files", "data_dir", "image_column", "label_column", "group_column", "splits", "text_column", "where"),
    *("unlabelled", "bad_rows", "class_split", "only_classes", "own_head", "counting", "multi_label"),
    *("label_separator", "choices_column", "question_column", "answer_column", "answer_type_column", "prompt"),
    *("attack", "corruption", "streaming", "license", "homepage", "citation", "guess"),
)
"""Order of keys in written definitions, followed by any others; changing it changes the bytes of recipes."""
OF_ANOTHER_TASK: Mapping[str, str] = {
    "extends": "Built-in name or task file of another task, whose keys this one has unless it sets them itself.",
    "class_subset": "With `extends`: names or positions of the classes of that task that this one keeps.",
}
"""What the keys do that a definition may have, but no task: they make a task from another one."""
NAME_LISTS = ("templates", "class_names", "label_names", "only_classes", "unlabelled")
DATASET_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "typographic_folder": {"text_column": "text", "splits": {"train": None, "validation": None, "test": "test"}}
}
"""`dataset` -> default values of other keys."""


def read_values(definition: Mapping[str, object], kinds: Mapping[str, type["Task"]], place: str) -> dict[str, object]:
    """Convert the keys of a definition to the field values of a task.

    Args:
        definition: Complete definition, including the keys of any task that it extends.
        kinds: Key -> kind of task that it selects.
        place: ` in FILE`, to be appended to the key in error messages, or an empty string.

    Raises:
        InputError: If a key is unknown, missing or belongs to another kind of task, or a value is invalid.
    """
    keys = {key: value for key, value in definition.items() if value is not None}
    keys = {**DATASET_DEFAULTS.get(str(keys.get("dataset")), {}), **keys}
    kind = next((kind for key, kind in kinds.items() if keys.get(key)), kinds[""])
    check_keys(definition, dict.fromkeys([*OF_ANOTHER_TASK, *_keys_of(kind, kinds)]), place)
    values = {**kind.defaults, **_own_keys(keys, kind, kinds.values(), place)}
    if values.get("guess"):
        values = {"templates": GENERAL_TEMPLATES, **values}
    for key in ("name", "dataset", "templates"):
        if not values.get(key):
            raise InputError(f"The task{place or ' definition'} needs the key '{key}'.")
    return values | read_parts(values, place)


def _keys_of(kind: type["Task"], kinds: Mapping[str, type["Task"]]) -> list[str]:
    """Return the keys of one kind of task, followed by the keys of all other kinds."""
    return [*kind.known_keys(), *(key for other in kinds.values() for key in other.known_keys())]


def _own_keys(
    keys: Mapping[str, object], kind: type["Task"], kinds: Iterable[type["Task"]], place: str
) -> dict[str, object]:
    """Return the keys that apply to this kind of task. Any other key is an error unless it is null or false."""
    own = {key: value for key, value in keys.items() if key in kind.known_keys()}
    for key in keys.keys() - own.keys():
        if keys[key] is not False:
            others = " or ".join(
                f"`{other.key}` for a {other.kind} task" for other in kinds if key in other.known_keys()
            )
            advice = f"Remove it, or add {others}."
            if kind.key:
                advice = f"Remove it, or `{kind.key}`, which makes the task a {kind.kind} task."
            raise InputError(f"`{key}`{place} is not a key of a {kind.kind} task. {advice}")
    return own


def read_parts(values: Mapping[str, object], place: str) -> dict[str, object]:
    """Convert the values whose type in a task differs from their type in YAML; those of a task stay as they are."""
    splits = values.get("splits") or {}
    if values.get("guess") and isinstance(splits, Mapping):
        splits = {**dict.fromkeys(("train", "validation", "test"), GUESS), **splits}
    parts: dict[str, object] = {"name": str(values["name"]), "splits": read_part(Splits, "splits", splits, place)}
    if isinstance(words := values.get("class_names"), Mapping):
        values = {**values, "class_names": list(words.values()), "label_names": list(words)}
    parts |= {key: read_names(key, values[key], place) for key in NAME_LISTS if values.get(key) is not None}
    if values.get("class_groups") is not None:
        groups = read_groups(values["class_groups"], place)
        parts |= {"class_groups": groups, "class_names": parts.get("class_names") or tuple(groups)}
    if not isinstance(values.get("data_files") or {}, Mapping):
        raise InputError(
            f"`data_files`{place} must map splits to files, as in {{test: parts.parquet}}; "
            f"got {values['data_files']!r}."
        )
    if values.get("class_split") is not None:
        parts["class_split"] = read_part(ClassSplit, "class_split", values["class_split"], place)
    if values.get("attack") is not None:
        parts["attack"] = read_part(TypographicAttack, "attack", values["attack"], place)
    if values.get("corruption") is not None:
        parts["corruption"] = read_part(Corruption, "corruption", values["corruption"], place)
    return parts


def read_inline(text: str) -> Mapping[str, object] | str:
    """Parse a definition in braces into a mapping; any other text is returned unchanged."""
    if not text.startswith("{"):
        return text
    definition = parse_yaml(text, f"The task {one_line(text)}", text_keys=TEXT_KEYS)
    if not isinstance(definition, dict):
        raise InputError(f"The task {one_line(text)} must consist of keys and values in braces.")
    return definition


def read_names(key: str, names: object, place: str) -> tuple[str, ...]:
    """Check a list of names, and return them in Unicode's composed form; in Python, they can also be integers.

    One template can stand without a list.
    """
    if key == "templates" and isinstance(names, str):
        names = [names]
    if not isinstance(names, (list, tuple)) or any(
        isinstance(name, bool) or not isinstance(name, (str, int)) for name in names
    ):
        raise InputError(
            f"`{key}`{place} must be a list of strings, got {names!r}. Put quotes around words like yes and no."
        )
    if not all(str(name).strip() for name in names):
        raise InputError(f"`{key}`{place} contains an empty name: {names!r}. Write or remove it.")
    return tuple(spelled(str(name)) for name in names)


def read_part(part: type[Part], key: str, values: object, place: str) -> Part:
    """Convert a mapping in a task YAML to its dataclass; one that is already converted is returned unchanged."""
    if isinstance(values, part):
        return values
    known = [f.name for f in fields(part)]
    if not isinstance(values, Mapping):
        raise InputError(f"`{key}`{place} must be a mapping with the keys {', '.join(known)}; got {values!r}.")
    check_keys(values, known, f" in `{key}`{place}")
    missing = [f.name for f in fields(part) if f.default is MISSING and f.name not in values]
    if missing:
        raise InputError(f"`{key}`{place} needs the key '{missing[0]}'.")
    return part(**values)


def read_groups(groups: object, place: str) -> dict[str, tuple[str, ...]]:
    """Check `class_groups`, and convert each list of names to a tuple."""
    if not isinstance(groups, Mapping) or not groups or not all(groups.values()):
        raise InputError(
            f"`class_groups`{place} must map each class to its names, as in {{bike: [bicycle, tandem]}}; "
            f"got {groups!r}."
        )
    names = [spelled(str(name)) for name in groups]
    if twice := [name for name in names if names.count(name) > 1]:
        raise InputError(f"`class_groups`{place} lists the class '{twice[0]}' twice. Join its two lists of names.")
    return {spelled(str(name)): read_names("class_groups", group, place) for name, group in groups.items()}


def check_keys(values: Iterable[object], known: Iterable[str], place: str) -> None:
    """Raise an error if a key is unknown, and suggest the closest known key."""
    known = list(known)
    for key in values:
        if key not in known:
            raise InputError(f"Unknown key '{key}'{place}.{did_you_mean(str(key), known)} Keys: {', '.join(known)}.")


def plain_values(values: Mapping[str, object]) -> dict[str, object]:
    """Convert the field values of a task to plain YAML values, with the keys in `ORDER`."""
    position = {key: index for index, key in enumerate(ORDER)}
    return {key: plain(values[key]) for key in sorted(values, key=lambda key: position.get(key, len(ORDER)))}
