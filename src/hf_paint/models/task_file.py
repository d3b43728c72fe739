"""`tasks.json`: the classes and prompts of a run's tasks, kept next to its model. Does not import torch."""

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias, TypeGuard, get_args

from hf_paint.documents.reading import parse_json, read_bytes
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.files import write_text
from hf_paint.repositories import fetch
from hf_paint.results.records import ROLES, Role
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task
from hf_paint.weights.folders import TASKS


FORMAT_VERSION = 1
MAX_BYTES = 64 * 2**20
MAX_TASKS = 1000
MAX_PROMPTS = 4_000_000
"""Limits for a file that may come from anyone: its size, its tasks, and the prompts of one task."""
MAX_LENGTH = 10_000
"""Maximum number of characters in a name or template."""
Rows: TypeAlias = tuple[tuple[int, ...], ...]
NAME = re.compile(r"[a-z0-9_-]{1,200}")

logger: logging.Logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskClasses:
    """The classes and prompts of a task, from which its head is built.

    Attributes:
        name: Name of the task.
        role: Role of the task in the run.
        kind: Kind of task, e.g. `classification`.
        class_names: Class names in the order of the logits; for multiple choice, the prompts of all candidates.
        templates: Prompts, each with exactly one `{}`.
        class_groups: Class name -> the names in its prompts, if a class can have several names.
        head_rows: For each class, its rows in the trained head of the model. None for a zero-shot head.
        built_in: Name of the built-in task that this is, if any.
    """

    name: str
    role: Role
    kind: str
    class_names: tuple[str, ...]
    templates: tuple[str, ...]
    class_groups: Mapping[str, tuple[str, ...]] | None = None
    head_rows: Rows | None = None
    built_in: str | None = None

    @property
    def is_multiple_choice(self) -> bool:
        """Whether each image is compared only with the candidates of its own question."""
        return self.kind == MultipleChoiceTask.kind

    @classmethod
    def of(
        cls, task: Task, class_names: Sequence[str], *, role: Role = "supported", head_rows: Rows | None = None
    ) -> "TaskClasses":
        """Return the classes and prompts of a task whose head has these class names."""
        groups = task.class_groups
        return cls(
            name=task.name,
            role=role,
            kind=task.kind,
            class_names=tuple(class_names),
            templates=task.templates,
            class_groups=None if groups is None else {name: groups[name] for name in class_names},
            head_rows=head_rows,
            built_in=task.source if task.source in list_tasks() else None,
        )

    def to_dict(self) -> dict[str, object]:
        """Return the task as JSON values; keys without a value are left out."""
        values = {key: getattr(self, key) for key in type(self).__slots__}
        return {key: value for key, value in values.items() if value is not None}

    @classmethod
    def from_dict(cls, values: object) -> "TaskClasses":
        """Read a task and check every value. Keys added by later versions are ignored.

        Raises:
            ValueError: If a value is missing or invalid. The message says which.
        """
        if not isinstance(values, Mapping):
            raise ValueError("a task is not a JSON object")
        name, role, built_in = values.get("name"), values.get("role"), values.get("built_in")
        if not (isinstance(name, str) and NAME.fullmatch(name)):
            raise ValueError("a task has no valid `name`")
        if not is_role(role):
            raise ValueError(f"the role of '{name}' is not one of {', '.join(get_args(Role))}")
        if built_in is not None and not (isinstance(built_in, str) and NAME.fullmatch(built_in)):
            raise ValueError(f"`built_in` of '{name}' is not the name of a task")
        class_names, templates = (_texts(values.get(key), name, key) for key in ("class_names", "templates"))
        if any(template.count("{}") != 1 for template in templates):
            raise ValueError(f"a template of '{name}' does not have exactly one {{}}")
        task = cls(
            name=name,
            role=role,
            kind=_text(values.get("kind"), name, "kind"),
            class_names=class_names,
            templates=templates,
            class_groups=_groups(values.get("class_groups"), name, class_names),
            head_rows=_rows(values.get("head_rows"), name, len(class_names)),
            built_in=built_in,
        )
        if len(templates) * sum(map(len, task.members)) > MAX_PROMPTS:
            raise ValueError(f"'{name}' has more than {MAX_PROMPTS} prompts")
        return task

    @property
    def members(self) -> list[tuple[str, ...]]:
        """For each class, the names in its prompts."""
        return [(name,) if self.class_groups is None else self.class_groups[name] for name in self.class_names]


def write_tasks(folder: Path, tasks: Sequence[TaskClasses]) -> None:
    """Write `tasks.json` in a folder."""
    write_text(folder / TASKS, tasks_to_json(tasks))


def tasks_to_json(tasks: Sequence[TaskClasses]) -> str:
    """Return the text of a `tasks.json`."""
    content = {"format_version": FORMAT_VERSION, "tasks": [task.to_dict() for task in tasks]}
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def merge_tasks(lists: Iterable[Sequence[TaskClasses]]) -> list[TaskClasses]:
    """Return the tasks of several models without repetitions, patching tasks first.

    A task that two models define differently is left out with a warning, as its name does not say which is meant.
    """
    found: dict[str, TaskClasses] = {}
    differing: set[str] = set()
    for task in sorted((task for tasks in lists for task in tasks), key=lambda task: ROLES.index(task.role)):
        known = found.setdefault(task.name, task)
        if replace(known, role=task.role) != task:
            differing.add(task.name)
    if differing:
        names = ", ".join(sorted(differing))
        logger.warning(f"Left out of {TASKS}, because the patches define them differently: {names}.")
    return [task for name, task in found.items() if name not in differing]


def read_tasks(name_or_path: str | Path, *, revision: str = "main") -> list[TaskClasses]:
    """Read the `tasks.json` of a model or patch; empty if it has none.

    Args:
        name_or_path: Folder, Hub repository id or `id@revision`.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: If the model does not exist, or the file is damaged, too large or of a later version.
    """
    path = fetch(name_or_path, TASKS, revision, optional=True)
    return [] if path is None else _read(path, f"The {TASKS} of '{name_or_path}'")


def find_task(tasks: Sequence[TaskClasses], name: str | None, place: str) -> TaskClasses:
    """Return the task with this name or, without a name, the only task.

    Raises:
        InputError: If there is no such task, or no name is given and there are several.
    """
    names = [task.name for task in tasks]
    if name is None and len(tasks) == 1:
        return tasks[0]
    if name not in names:
        problem = "has several tasks. Name one of them" if name is None else f"has no task '{name}'"
        hint = "" if name is None else did_you_mean(name, names)
        raise InputError(f"{place} {problem}: {', '.join(names) or 'it lists none'}.{hint}")
    return tasks[names.index(name)]


def is_role(value: object) -> TypeGuard[Role]:
    """Return whether a value is the role of a task."""
    return value in get_args(Role)


def _read(path: Path, place: str) -> list[TaskClasses]:
    content = parse_json(read_bytes(path, place, MAX_BYTES), place, limit=MAX_BYTES)
    try:
        if not isinstance(content, dict):
            raise ValueError("it is no JSON object")
        version = content["format_version"]
        if version == FORMAT_VERSION:
            return _tasks(content["tasks"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{place} is damaged: {one_line(error)}.") from error
    raise InputError(
        f"{place} has format version {version!r:.20}, but this version of hf_paint reads only "
        f"{FORMAT_VERSION}. Update hf_paint."
    )


def _tasks(values: object) -> list[TaskClasses]:
    if not isinstance(values, list) or len(values) > MAX_TASKS:
        raise ValueError(f"`tasks` is not a list of at most {MAX_TASKS} tasks")
    tasks = [TaskClasses.from_dict(task) for task in values]
    if len({task.name for task in tasks}) < len(tasks):
        raise ValueError("two tasks have the same name")
    return tasks


def _text(value: object, task: str, key: str) -> str:
    if not isinstance(value, str) or not value or len(value) > MAX_LENGTH:
        raise ValueError(f"`{key}` of '{task}' has a value that is not a text of 1 to {MAX_LENGTH} characters")
    value.encode()  # raises a ValueError for half of a surrogate pair, which no tokenizer takes
    return value


def _texts(values: object, task: str, key: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not values:
        raise ValueError(f"`{key}` of '{task}' is not a list of texts")
    return tuple(_text(value, task, key) for value in values)


def _groups(values: object, task: str, class_names: Sequence[str]) -> dict[str, tuple[str, ...]] | None:
    if values is None:
        return None
    if not isinstance(values, Mapping) or set(values) != set(class_names):
        raise ValueError(f"the keys of `class_groups` of '{task}' are not its classes")
    return {name: _texts(names, task, "class_groups") for name, names in values.items()}


def _rows(values: object, task: str, num_classes: int) -> Rows | None:
    if values is None:
        return None
    if not isinstance(values, list) or len(values) != num_classes or not all(isinstance(row, list) for row in values):
        raise ValueError(f"`head_rows` of '{task}' is not a list of rows for each class")
    if len({len(row) for row in values}) != 1 or not values[0]:
        raise ValueError(f"`head_rows` of '{task}' does not have the same number of rows for each class")
    if any(type(index) is not int or index < 0 for row in values for index in row):
        raise ValueError(f"`head_rows` of '{task}' contains something other than row numbers")
    return tuple(tuple(row) for row in values)
