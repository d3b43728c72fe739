"""Task definitions: built-in tasks, task YAMLs, and tasks that extend another task with `extends`."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path

import yaml

from hf_paint.documents.reading import TEXT_KEYS, parse_yaml, read_yaml
from hf_paint.errors import InputError, did_you_mean
from hf_paint.files import expand, write_text
from hf_paint.tasks.data_files import LOCAL_FILES
from hf_paint.tasks.groups import TASK_GROUPS
from hf_paint.tasks.keys import read_groups, read_names
from hf_paint.tasks.names import spelled
from hf_paint.tasks.references import OTHER_REFERENCES, complete_reference, define


Definition = Mapping[str, object]
DEFINITIONS = files("hf_paint.tasks") / "built_in"


def list_tasks() -> list[str]:
    """Return the names of the built-in tasks.

    Example:
        >>> "mnist" in list_tasks()
        True
    """
    return sorted(path.name.removesuffix(".yaml") for path in DEFINITIONS.iterdir() if path.name.endswith(".yaml"))


def is_built_in(name: object) -> bool:
    """Return whether a name stands for a built-in task or a group of them, and so is no path."""
    return name in TASK_GROUPS or name in list_tasks()


def read_definition(reference: str, folder: Path | None = None, *, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    """Return the complete definition of a built-in task, of a task YAML, or of data.

    Args:
        reference: Name of a built-in task, a path ending in `.yaml`, or the path or Hub id of data (see `define`).
        folder: Folder against which relative paths are resolved; the working directory by default.
        seen: Task files that led to this one through `extends`.

    Raises:
        InputError: If the task does not exist, or its file cannot be read or extends itself.
    """
    if reference.endswith((".yaml", ".yml")):
        return read_file((folder or Path()) / expand(reference), seen=seen)
    definition = None if reference in list_tasks() else define(reference, folder)
    return complete(_read_built_in(reference)) if definition is None else definition


def read_file(path: Path, *, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    """Return the complete definition in a task YAML.

    Raises:
        InputError: If the file cannot be read or extends itself.
    """
    path = path.resolve()
    if path in seen:
        raise InputError(f"The task file {path} extends itself. Let it extend another task, or remove `extends`.")
    definition = read_yaml(path, f"The task file {path}", text_keys=TEXT_KEYS)
    if not isinstance(definition, dict):
        raise InputError(f"The task file {path} must contain keys and values, for instance `name: mnist`.")
    return complete(complete_reference(definition, path.parent), path.parent, seen=(*seen, path))


def write_file(definition: Definition, path: Path) -> None:
    """Write a task YAML; paths to data files in the same folder become relative to it."""
    folder = path.resolve().parent

    def relative(file: str) -> str:
        inside = "://" not in file and Path(file).resolve().is_relative_to(folder)
        return str(Path(file).resolve().relative_to(folder)) if inside else file

    written = dict(definition)
    if isinstance(data_files := definition.get("data_files"), Mapping):
        written["data_files"] = {
            split: [relative(file) for file in paths] if isinstance(paths, list) else relative(paths)
            for split, paths in data_files.items()
        }
    write_text(path, yaml.safe_dump(written, sort_keys=False, allow_unicode=True))


def complete(definition: Definition, folder: Path | None = None, *, seen: tuple[Path, ...] = ()) -> dict[str, object]:
    """Merge a definition with the task that it extends, and make local paths absolute.

    A key overrides the entire value of that key in the extended task. `class_subset` and `class_groups` refer to
    classes of the extended task by name or, with numbers that are not names, by index. A task that extends another
    must have a different `name`, so that the records of the two can be told apart. If the only other changes are
    `class_split`, `corruption` or `attack`, the name can be omitted and is derived from them.

    Args:
        definition: The keys of a task YAML.
        folder: Folder of the YAML file; if None, paths are left unchanged.
        seen: Task files that led to this one through `extends`.

    Raises:
        InputError: If the extended task cannot be read or lacks a class.
    """
    if "extends" not in definition:
        if "class_subset" in definition:
            raise InputError("`class_subset` selects classes of another task. Name that task with `extends`.")
        return _resolve_paths(definition, str(definition.get("dataset")), folder)
    change = dict(definition)
    base = read_definition(str(change.pop("extends")), folder, seen=seen)
    if "name" not in change:
        change["name"] = _derived_name(base, change)
    change = _choose_classes(base, change)
    return base | _resolve_paths(change, str(change.get("dataset", base.get("dataset"))), folder)


def _read_built_in(name: str) -> dict[str, object]:
    if name in TASK_GROUPS:
        raise InputError(
            f"'{name}' is a group of {len(TASK_GROUPS[name])} tasks, and one task is needed here. Name one of them: "
            f"{', '.join(TASK_GROUPS[name])}."
        )
    if name not in list_tasks():
        raise InputError(
            f"Task '{name}' is unknown.{did_you_mean(name, [*list_tasks(), *TASK_GROUPS])} "
            f"`hf-paint tasks` lists the built-in tasks; for your own task, give the path to a YAML file. "
            f"{OTHER_REFERENCES}"
        )
    definition = parse_yaml((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"), name, text_keys=TEXT_KEYS)
    return dict(definition) if isinstance(definition, dict) else {}


def _derived_name(base: Definition, change: Definition) -> str | None:
    """Return a name like `mnist-part-0`, `mnist-noise-3-seed-1` or `mnist-attack`, or None for other changes."""
    parts = [str(base.get("name"))]
    for key, form in (("class_split", "part-{part}"), ("attack", "attack"), ("corruption", "{name}-{severity}")):
        options = change.get(key)
        if options is not None and base.get(key) is None:
            values: dict[str, object] = {"part": None, "name": None, "severity": None}
            values |= options if isinstance(options, Mapping) else {}
            parts.append(form.format(**values) + (f"-seed-{values['seed']}" if values.get("seed") else ""))
    return "-".join(parts) if base.get("name") and len(parts) > 1 else None


def _choose_classes(base: Definition, change: Definition) -> dict[str, object]:
    """Replace `class_subset`, and the members of `class_groups`, by the names of those classes."""
    choice = dict(change)
    class_names = _names(base, "class_names")
    if (subset := choice.pop("class_subset", None)) is not None:
        indices = [_class_index(base, name) for name in _checked_names(subset)]
        for key in ("class_names", "label_names"):
            if names := _names(base, key):
                choice[key] = [names[index] for index in indices]
    if (groups := choice.get("class_groups")) is not None:
        members = {
            group: [class_names[_class_index(base, name)] for name in names]
            for group, names in _checked_groups(groups).items()
        }
        choice = {"class_names": list(members), "label_names": None} | choice | {"class_groups": members}
    return choice


def _checked_names(subset: object) -> Sequence[str | int]:
    read_names("class_subset", subset, "")
    return subset if isinstance(subset, (list, tuple)) else ()


def _checked_groups(groups: object) -> Mapping[str, Sequence[str | int]]:
    read_groups(groups, "")
    return groups if isinstance(groups, Mapping) else {}


def _names(base: Definition, key: str) -> Sequence[str]:
    names, words = base.get(key), base.get("class_names")
    if isinstance(words, Mapping):  # from the names in the data to words for prompts
        names = list(words if key == "label_names" else words.values())
    return names if isinstance(names, (list, tuple)) else ()


def _class_index(base: Definition, name: str | int) -> int:
    """Return the index of a class given by its label name, class name or index."""
    class_names = _names(base, "class_names")
    text = spelled(str(name))
    for names in (_names(base, "label_names"), class_names):
        spellings = [spelled(str(other)) for other in names]
        if text in spellings:
            return spellings.index(text)
    if text.isdecimal() and int(text) < len(class_names):
        return int(text)
    raise InputError(
        f"{name!r} is neither a class name nor a class index of task '{base.get('name')}', which has "
        f"{len(class_names)} class names.{did_you_mean(str(name), class_names)}"
    )


def _resolve_paths(definition: Definition, dataset: str, folder: Path | None) -> dict[str, object]:
    """Resolve local paths relative to the folder of the YAML file; paths on the Hub are left unchanged."""
    resolved = dict(definition)
    if folder is None:
        return resolved
    if isinstance(attack := definition.get("attack"), Mapping) and isinstance(attack.get("fonts"), list):
        resolved["attack"] = {**attack, "fonts": [_resolve(path, folder) for path in attack["fonts"]]}
    if dataset.startswith((".", "~", "/")):
        resolved["dataset"] = _resolve(dataset, folder)
    elif dataset not in LOCAL_FILES:
        return resolved
    if data_dir := definition.get("data_dir"):
        resolved["data_dir"] = _resolve(data_dir, folder)
    if isinstance(data_files := definition.get("data_files"), dict):
        resolved["data_files"] = {
            split: [_resolve(path, folder) for path in paths] if isinstance(paths, list) else _resolve(paths, folder)
            for split, paths in data_files.items()
        }
    return resolved


def _resolve(path: object, folder: Path) -> str:
    return str(path) if "://" in str(path) else str(folder / expand(str(path)))
