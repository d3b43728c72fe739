"""Task definitions as they are written: the built-in ones, task YAMLs, and what one `extends` another with."""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.tasks.keys import read_groups, read_names


DEFINITIONS = files("hf_paint.tasks") / "built_in"
LOCAL_FILES = ("arrow", "csv", "imagefolder", "json", "parquet", "typographic_folder", "webdataset")
"""What `dataset` says for files that are not on the Hub: the names of the readers of `datasets`, and our own."""


def list_tasks() -> list[str]:
    """Return the names of the built-in tasks.

    Example:
        >>> "mnist" in list_tasks()
        True
    """
    return sorted(path.name.removesuffix(".yaml") for path in DEFINITIONS.iterdir() if path.name.endswith(".yaml"))


def read_definition(reference: str, folder: Path | None = None, *, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the whole definition of a built-in task or of a task YAML.

    Args:
        reference: A name that `list_tasks()` lists, or a path that ends in `.yaml`.
        folder: What the path is relative to; the working directory by default.
        seen: The files that extend it.

    Raises:
        InputError: If there is no such task, or the file cannot be read or extends itself.
    """
    if reference.endswith((".yaml", ".yml")):
        return read_file((folder or Path()) / Path(reference).expanduser(), seen=seen)
    return complete(_read_built_in(reference))


def read_file(path: Path, *, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Return the whole definition in a task YAML.

    Raises:
        InputError: If the file cannot be read or extends itself.
    """
    path = path.resolve()
    if path in seen:
        raise InputError(f"The task file {path} extends itself.")
    try:
        definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"The task file {path} cannot be read: {one_line(error)}") from error
    if not isinstance(definition, dict):
        raise InputError(f"The task file {path} does not hold a mapping of keys to values.")
    return complete(definition, path.parent, seen=(*seen, path))


def complete(
    definition: Mapping[str, Any], folder: Path | None = None, *, seen: tuple[Path, ...] = ()
) -> dict[str, Any]:
    """Return a definition with what it `extends` filled in and its local paths made absolute.

    Its own keys win, each as a whole. `class_subset` and `class_groups` name classes of the task that it extends, or
    give their indices. A half of the classes is named after the task and the half, a corrupted or attacked task after
    the task and the corruption or attack, and any other task that extends one needs a name of its own: records of the
    two must not be confused.

    Args:
        definition: The keys of a task YAML.
        folder: The folder of the file that holds them; without one, paths stay as they are.
        seen: The files that are being read.

    Raises:
        InputError: If the task that it extends cannot be read, or has no such class.
    """
    if "extends" not in definition:
        if "class_subset" in definition:
            raise InputError("`class_subset` chooses among the classes of another task: it needs the key `extends`.")
        return _resolve_paths(definition, str(definition.get("dataset")), folder)
    change = dict(definition)
    base = read_definition(str(change.pop("extends")), folder, seen=seen)
    if "name" not in change:
        change["name"] = _derived_name(base, change)
    change = _choose_classes(base, change)
    return base | _resolve_paths(change, str(change.get("dataset", base.get("dataset"))), folder)


def _read_built_in(name: str) -> dict[str, Any]:
    if name not in list_tasks():
        raise InputError(
            f"Task '{name}' is unknown.{did_you_mean(name, list_tasks())} "
            "`hf-paint tasks` lists the tasks; your own task is the path of a YAML file."
        )
    definition: dict[str, Any] = yaml.safe_load((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"))
    return definition


def _derived_name(base: Mapping[str, Any], change: Mapping[str, Any]) -> str | None:
    """Return such as `mnist-part-0`, `mnist-noise-3` or `mnist-attack`; None for other changes.

    A seed is part of the name where it is not 0.
    """
    parts = [str(base.get("name"))]
    for key, form in (("class_split", "part-{part}"), ("attack", "attack"), ("corruption", "{name}-{severity}")):
        given = change.get(key)
        if given is not None and base.get(key) is None:
            values = {"part": None, "name": None, "severity": None, **(given if isinstance(given, Mapping) else {})}
            parts.append(form.format(**values) + (f"-seed-{values['seed']}" if values.get("seed") else ""))
    return "-".join(parts) if base.get("name") and len(parts) > 1 else None


def _choose_classes(base: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out `class_subset`, and write `class_groups` with names, in a definition that extends another."""
    chosen = dict(change)
    subset, groups = chosen.pop("class_subset", None), chosen.get("class_groups")
    if subset is not None:
        read_names("class_subset", subset, "")  # what is no list of names is refused
        indices = [_class_index(base, given) for given in subset]
        chosen |= {key: [base[key][i] for i in indices] for key in ("class_names", "label_names") if base.get(key)}
    if groups is not None:
        read_groups(groups, "")
        names = {
            group: [base["class_names"][_class_index(base, given)] for given in members]
            for group, members in groups.items()
        }
        chosen = {"class_names": list(names), "label_names": None} | chosen | {"class_groups": names}
    return chosen


def _class_index(base: Mapping[str, Any], given: str | int) -> int:
    """Return the index of a class that is given by its index, its label or its name."""
    class_names = base.get("class_names") or []
    if isinstance(given, int) and 0 <= given < len(class_names):
        return given
    for names in (base.get("label_names") or [], class_names):
        if given in names:
            return int(names.index(given))
    raise InputError(
        f"Task '{base.get('name')}' lists {len(class_names)} class names, and {given!r} is neither one nor an index."
    )


def _resolve_paths(definition: Mapping[str, Any], dataset: str, folder: Path | None) -> dict[str, Any]:
    """Take local paths relative to the folder of the YAML file, and leave those on the Hub as they are."""
    resolved = dict(definition)
    if folder is None:
        return resolved
    if isinstance(attack := definition.get("attack"), Mapping) and isinstance(attack.get("fonts"), list):
        resolved["attack"] = {**attack, "fonts": [_resolve(path, folder) for path in attack["fonts"]]}
    if dataset.startswith((".", "~", "/")):
        resolved["dataset"] = _resolve(dataset, folder)
    elif dataset not in LOCAL_FILES:
        return resolved
    if definition.get("data_dir"):
        resolved["data_dir"] = _resolve(definition["data_dir"], folder)
    if isinstance(definition.get("data_files"), dict):
        resolved["data_files"] = {
            split: [_resolve(path, folder) for path in paths] if isinstance(paths, list) else _resolve(paths, folder)
            for split, paths in definition["data_files"].items()
        }
    return resolved


def _resolve(path: str, folder: Path) -> str:
    return str(path) if "://" in str(path) else str(folder / Path(path).expanduser())
