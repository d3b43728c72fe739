"""What a task is: a data set, its splits, the class names and the prompts. A task is a YAML file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from importlib.resources import files
from pathlib import Path
from typing import Any, Self

import yaml

from hf_paint.errors import InputError, did_you_mean


DEFINITIONS = files("hf_paint") / "task_definitions"
LOCAL_FILES = ("arrow", "csv", "imagefolder", "json", "parquet", "webdataset")
"""What `dataset` says for files that are not on the Hub: the names of the readers of `datasets`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """The splits of a data set: the name of each, or None where there is none.

    `validation` is a split's name, `auto` (drawn from train by PAINT's rule: `min(int(0.1 * N), 5000)` images), or
    None: train on all rows and take no part in the selection of alpha.
    """

    train: str | None = "train"
    validation: str | None = "auto"
    test: str | None = "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An image classification task that a CLIP model can do from prompts.

    Attributes:
        name: What records, tables and metric keys call it; lower case letters, digits, `_` and `-`.
        dataset: An id on the Hub, or `parquet`, `imagefolder`, ... for local files.
        templates: Prompts, each a string with exactly one `{}` for the class name.
        class_names: The names that go into the prompts. May be left out when the label column is a ClassLabel.
        label_names: What the data set itself calls the classes, in the order of `class_names`. Only needed where the
            two differ by more than case, spaces and punctuation: labels are matched by name, never by position.
        config: The configuration of the data set.
        revision: A branch, tag or commit of the data set.
        data_files: Local files, split -> path or list of paths, relative to the YAML file.
        data_dir: A local folder, relative to the YAML file.
        image_column: The column with the images.
        label_column: The column with the labels.
        group_column: Rows of one group (the frames of a video) stay on one side of an `auto` validation split.
        splits: The names of the train, validation and test splits.
        streaming: Read the data set as a stream, for splits that are too large to copy.
        license: The licence of the data set, for the card.
        homepage: Where the data set comes from, for the card.
        citation: BibTeX, for the card.
        source: The built-in name or the path that the task was read from; None for a task made in Python.
    """

    name: str
    dataset: str
    templates: tuple[str, ...]
    class_names: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None
    config: str | None = None
    revision: str | None = None
    data_files: Mapping[str, str | list[str]] | None = None
    data_dir: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    group_column: str | None = None
    splits: Splits = field(default_factory=Splits)
    streaming: bool = False
    license: str | None = None
    homepage: str | None = None
    citation: str | None = None
    source: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_dict(cls, definition: Mapping[str, Any], *, source: str | None = None) -> Self:
        """Make a task from the keys of a task YAML.

        Raises:
            InputError: If a key is unknown or missing, or a value cannot be used.
        """
        known = [f.name for f in fields(cls) if f.name != "source"]
        where = f" in {source}" if source else ""
        for key in definition:
            if key not in known:
                raise InputError(f"Unknown key '{key}'{where}.{did_you_mean(key, known)} Keys: {', '.join(known)}.")
        for key in ("name", "dataset", "templates"):
            if not definition.get(key):
                raise InputError(f"The task{where or ' definition'} needs the key '{key}'.")
        values = dict(definition, name=str(definition["name"]), source=source)
        for key in ("templates", "class_names", "label_names"):
            if values.get(key) is not None:
                values[key] = _read_names(key, values[key], where)
        if not isinstance(values.get("data_files") or {}, Mapping):
            raise InputError(f"`data_files`{where} must map splits to files, such as {{test: parts.parquet}}.")
        values["splits"] = _read_splits(values.get("splits") or {}, where)
        return cls(**values)

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a task YAML; `data_files` and `data_dir` are taken relative to the file.

        Raises:
            InputError: If the file cannot be read or does not define a task.
        """
        path = Path(path)
        try:
            definition = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise InputError(f"The task file {path} cannot be read: {' '.join(str(error).split())}") from error
        if not isinstance(definition, dict):
            raise InputError(f"The task file {path} does not hold a mapping of keys to values.")
        return cls.from_dict(_resolve_paths(definition, path.resolve().parent), source=str(path.resolve()))

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as the keys of a task YAML, defaults left out; `from_dict` reads it back."""
        defaults = {f.name: f.default for f in fields(self)}
        values = {key: value for key, value in asdict(self).items() if value != defaults[key] and key != "source"}
        for key in ("templates", "class_names", "label_names"):
            if key in values:
                values[key] = list(values[key])
        return values


def get_task(name_or_path: str | Path | Mapping[str, Any] | Task) -> Task:
    """Return a built-in task by name, or a user's own task by the path of its YAML file.

    Args:
        name_or_path: A name that `list_tasks()` lists, a path that ends in `.yaml`, or a definition as a mapping.

    Raises:
        InputError: If there is no such task; the nearest name is suggested.

    Example:
        >>> get_task("mnist").templates
        ('a photo of the number: "{}".',)
    """
    if isinstance(name_or_path, Task):
        return name_or_path
    if isinstance(name_or_path, Mapping):
        return Task.from_dict(name_or_path)
    name = str(name_or_path)
    if name.endswith((".yaml", ".yml")):
        return Task.from_yaml(name)
    if name not in list_tasks():
        raise InputError(
            f"Task '{name}' is unknown.{did_you_mean(name, list_tasks())} "
            "`hf-paint tasks` lists the tasks; your own task is the path of a YAML file."
        )
    definition = yaml.safe_load((DEFINITIONS / f"{name}.yaml").read_text(encoding="utf-8"))
    return Task.from_dict(definition, source=name)


def list_tasks() -> list[str]:
    """Return the names of the built-in tasks.

    Example:
        >>> "mnist" in list_tasks()
        True
    """
    return sorted(path.name.removesuffix(".yaml") for path in DEFINITIONS.iterdir() if path.name.endswith(".yaml"))


def _read_names(key: str, names: Any, where: str) -> tuple[str, ...]:
    """Read a list of names; YAML turns an unquoted yes, no, on and off into booleans."""
    if not isinstance(names, (list, tuple)) or any(
        isinstance(n, bool) or not isinstance(n, (str, int)) for n in names
    ):
        raise InputError(f"`{key}`{where} must be a list of strings; put quotes around words such as yes and no.")
    return tuple(str(name) for name in names)


def _read_splits(splits: Mapping[str, str | None], where: str) -> Splits:
    if not isinstance(splits, Mapping):
        raise InputError(f"`splits`{where} must map train, validation and test to names of splits, got {splits!r}.")
    known = [f.name for f in fields(Splits)]
    for key in splits:
        if key not in known:
            raise InputError(f"Unknown split '{key}'{where}.{did_you_mean(key, known)} Known: {', '.join(known)}.")
    return Splits(**splits)


def _resolve_paths(definition: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Take local paths relative to the folder of the YAML file, and leave those on the Hub as they are."""
    dataset = str(definition.get("dataset"))
    resolved = dict(definition)
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


def _check(task: Task) -> None:
    if not re.fullmatch(r"[a-z0-9_-]+", task.name):
        raise InputError(f"Task name '{task.name}' must consist of lower case letters, digits, '_' and '-'.")
    for template in task.templates:
        if template.count("{}") != 1:
            raise InputError(f"Template {template!r} of task '{task.name}' must hold exactly one {{}}.")
    _refuse_duplicates(task.name, task.label_names or task.class_names or ())
    if task.label_names is not None and len(task.label_names) != len(task.class_names or ()):
        raise InputError(f"Task '{task.name}' needs as many `label_names` as `class_names`.")
    splits = task.splits
    for name in ("train", "validation"):
        if splits.test is not None and getattr(splits, name) == splits.test:
            raise InputError(
                f"Task '{task.name}' has {name} = test ('{splits.test}'): the images that report the result would "
                "have a part in it. Name another split, or null."
            )


def _refuse_duplicates(task_name: str, names: Sequence[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise InputError(f"Task '{task_name}' lists the class name '{duplicates[0]}' twice.")
