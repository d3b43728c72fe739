"""Corrupted copies of a task, as its distribution shifts."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hf_paint.corruptions import SEVERITIES, STRENGTHS, Corruption
from hf_paint.definitions import check_keys
from hf_paint.errors import InputError
from hf_paint.task_values import read_inline
from hf_paint.tasks import Task, get_task


def corrupted(
    task: Task | str,
    *,
    names: Sequence[str] = tuple(STRENGTHS),
    severities: Sequence[int] = SEVERITIES,
    seed: int = 0,
) -> list[Task]:
    """Return a task with its images corrupted, once for each corruption and severity (ImageNet-C).

    Args:
        task: A task, a built-in name or the path of a task YAML.
        names: Of `noise`, `blur`, `contrast`, `jpeg` and `pixelate`.
        severities: From 1, mild, to 5.
        seed: The seed of the noise.

    Raises:
        InputError: If there is no such task, corruption or severity, or the task is corrupted already.

    Example:
        >>> [shift.name for shift in corrupted("cifar10", names=["noise", "jpeg"], severities=[1, 5])]
        ['cifar10-noise-1', 'cifar10-noise-5', 'cifar10-jpeg-1', 'cifar10-jpeg-5']
    """
    task = get_task(task)
    if task.corruption is not None:
        raise InputError(f"Task '{task.name}' is corrupted already: name the task that it was made from.")
    corruptions = [Corruption(name=name, severity=severity, seed=seed) for name in names for severity in severities]
    return [replace(task, name=f"{task.name}-{c.suffix}", corruption=c, source=None) for c in corruptions]


def get_tasks(references: Iterable[str | Mapping[str, Any] | Task]) -> list[Task]:
    """Return tasks as `get_task` does; `{corrupted: cifar10}` stands for all that `corrupted` returns.

    Its keys are the arguments of `corrupted`: `{corrupted: cifar10, names: [noise], severities: [1, 3, 5]}`.

    Raises:
        InputError: If one cannot be read.
    """
    tasks: list[Task] = []
    for reference in references:
        definition = read_inline(reference) if isinstance(reference, str) else reference
        if isinstance(definition, Mapping) and "corrupted" in definition:
            check_keys(definition, ("corrupted", "names", "severities", "seed"), " beside `corrupted`")
            options = dict(definition)
            for key in ("names", "severities"):
                if key in options and not (isinstance(options[key], list) and options[key]):
                    raise InputError(
                        f"`{key}` beside `corrupted` must be a list of one or more, got {options[key]!r}."
                    )
            tasks += corrupted(options.pop("corrupted"), **options)
        else:
            tasks.append(get_task(reference))
    return tasks
