"""Look up tasks by whatever names them, and make corrupted copies of a task to measure distribution shift."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set, ValuesView
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from hf_paint.errors import InputError
from hf_paint.tasks.corruptions import SEVERITIES, STRENGTHS, Corruption
from hf_paint.tasks.definitions import list_tasks, read_definition
from hf_paint.tasks.groups import TASK_GROUPS
from hf_paint.tasks.keys import check_keys, read_inline
from hf_paint.tasks.references import (
    InMemory,
    complete_reference,
    define_memory,
    is_complete_definition,
    is_in_memory,
)
from hf_paint.tasks.task import Task


TaskLike: TypeAlias = str | Path | Mapping[str, object] | Task | InMemory
"""A task, or what names one: a built-in name, the path or Hub id of data, a definition, or data in memory."""
Other = TypeVar("Other")
SEVERAL: tuple[type, ...] = (Sequence, Set, Iterator, ValuesView)
"""What holds several tasks. Tables and arrays can be iterated over, too, but their rows and columns are not tasks."""


def corrupted(
    task: TaskLike,
    *,
    names: Sequence[str] = tuple(STRENGTHS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> list[Task]:
    """Return corrupted copies of a task, one for each corruption and severity, as in ImageNet-C.

    Args:
        task: A task, or what names one (see `get_task`).
        names: Corruptions, from `noise`, `blur`, `contrast`, `jpeg` and `pixelate`.
        severities: Severities, from 1 (mild) to 5.
        seed: Random seed for the noise.

    Raises:
        InputError: If a task, corruption or severity is unknown, or the task is already corrupted.

    Example:
        >>> [shift.name for shift in corrupted("cifar10", names=["noise", "jpeg"], severities=[1, 5])]
        ['cifar10-noise-1', 'cifar10-noise-5', 'cifar10-jpeg-1', 'cifar10-jpeg-5']
    """
    task = get_task(task)
    if task.corruption is not None:
        raise InputError(f"Task '{task.name}' is already corrupted. Pass the task without `corruption` instead.")
    corruptions = [Corruption(name=name, severity=severity, seed=seed) for name in names for severity in severities]
    return [replace(task, name=f"{task.name}-{c.suffix}", corruption=c, source=None) for c in corruptions]


def get_tasks(references: TaskLike | Iterable[TaskLike]) -> list[Task]:
    """Return tasks as `get_task` does; a group from `list_task_groups` stands for its tasks, in their order.

    `{corrupted: cifar10}` stands for all tasks returned by `corrupted`. Other arguments of `corrupted` are additional
    keys: `{corrupted: cifar10, names: [noise], severities: [1, 3, 5]}`.

    A task that a group and another entry have in common is taken once, where it comes first.

    Args:
        references: Tasks, or a single one.

    Raises:
        InputError: If a task is unknown or invalid.

    Example:
        >>> [task.name for task in get_tasks(["mnist", {"corrupted": "cifar10", "names": ["jpeg"]}])][:3]
        ['mnist', 'cifar10-jpeg-1', 'cifar10-jpeg-2']
        >>> [task.name for task in get_tasks(["merging8", "kmnist"])][-3:]
        ['mnist', 'dtd', 'kmnist']
    """
    tasks: list[Task] = []
    grouped: list[Task] = []
    for reference in each_reference(references):
        definition = read_inline(reference) if isinstance(reference, str) else reference
        if isinstance(definition, Mapping) and "corrupted" in definition:
            tasks += _read_corrupted(definition)
        elif isinstance(reference, str) and reference in TASK_GROUPS:
            grouped += [task for task in map(get_task, TASK_GROUPS[reference]) if task not in grouped]
            tasks += [task for task in grouped if task not in tasks]
        elif (task := get_task(reference)) not in grouped:
            tasks.append(task)
    return tasks


def _read_corrupted(definition: Mapping[str, object]) -> list[Task]:
    check_keys(definition, ("corrupted", "names", "severities", "seed"), " beside `corrupted`")
    options: dict[str, Any] = dict(definition)
    for key in ("names", "severities"):
        if key in options and not (isinstance(options[key], list) and options[key]):
            raise InputError(f"`{key}` next to `corrupted` must be a non-empty list, got {options[key]!r}.")
    return corrupted(options.pop("corrupted"), **options)


def each_reference(references: TaskLike | Iterable[Other]) -> Iterable[TaskLike | Other]:
    """Return several references, or a single one as a list; the several may also be of another kind.

    Raises:
        InputError: If these are neither, like a table.
    """
    if isinstance(references, (str, Path, Mapping, Task)) or is_in_memory(references):
        return [references]
    if not isinstance(references, SEVERAL):
        raise _no_task(references)
    return references


def _no_task(reference: object) -> InputError:
    return InputError(
        "A task is a `Task`, a built-in name, the path or Hub id of data, the path to a task YAML, a definition or "
        "data in memory (a `datasets.Dataset`, a `DatasetDict` or a list of (image, label) tuples); got an object of "
        f"type {type(reference).__name__}."
    )


def get_task(reference: TaskLike) -> Task:
    """Return the task that a name, a path, a data set id, a definition or data in memory stand for.

    Data are not opened: what only they can tell is found when they are loaded (`guess` in `Task`).

    Args:
        reference: One of these:

            - a name from `list_tasks()`,
            - a path ending in `.yaml`: a task definition,
            - the path of a folder of pictures, a zip, parquet, CSV, JSON or tar file, or a folder of such files,
            - a data set on the Hub: `user/name`, `user/name:config`, `user/name@revision`,
            - a definition: either a mapping or, on the command line, YAML in braces. Its `dataset` may be any of the
              above: `{dataset: textures/, templates: [a photo of a {} texture.]}`,
            - a `datasets.Dataset`, a `DatasetDict`, or a list of (image, label) pairs.

    Raises:
        InputError: If the task is unknown or invalid; the message suggests the nearest name.

    Example:
        >>> get_task("mnist").templates
        ('a photo of the number: "{}".',)
    """
    if isinstance(reference, Task):
        return reference
    if is_in_memory(reference):
        return Task.from_dict(define_memory(reference))
    if isinstance(reference, Mapping):
        return _from_definition(reference)
    if not isinstance(reference, (str, Path)):
        raise _no_task(reference)
    name = str(reference)
    if isinstance(definition := read_inline(name), Mapping):
        return _from_definition(definition)
    if name.endswith((".yaml", ".yml")):
        return Task.from_yaml(name)
    return Task.from_dict(read_definition(name), source=name if name in list_tasks() else None)


def _from_definition(definition: Mapping[str, object]) -> Task:
    """Return the task of an inline definition; its `dataset` may also be a built-in task or a task YAML."""
    named = definition.get("dataset")
    if isinstance(named, (str, Path)) and not is_complete_definition(definition):
        is_task = str(named).endswith((".yaml", ".yml")) or str(named) in list_tasks()
        if is_task and "extends" not in definition:
            keys = {key: value for key, value in definition.items() if key != "dataset"}
            return Task.from_dict({"name": get_task(named).name, **keys, "extends": str(named)})
    return Task.from_dict(complete_reference(definition))
