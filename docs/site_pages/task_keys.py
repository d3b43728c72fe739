"""The page of task keys: those of every task, those of each kind of task, and those of the parts of a task."""

from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import get_type_hints

from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.keys import OF_ANOTHER_TASK
from hf_paint.tasks.subsets import ClassSplit, Splits
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic import TypographicAttack
from site_pages.markdown import sections, table, text
from site_pages.source import default, described, values


PARTS = {"splits": Splits, "class_split": ClassSplit, "attack": TypographicAttack, "corruption": Corruption}
"""Key whose value is a mapping -> what it is read as."""
INTRODUCTION = """\
# Task keys

A task is described by a YAML file with these keys, by the same keys in braces where a recipe names a task, and by the
arguments of `Task` in Python. Most tasks need few of them, and a folder of pictures needs none:
`hf-paint tasks textures/ --yaml` writes the file that describes it. [Task files](../how_to/tasks.md) has examples.
What is called None below is `null` in YAML."""
DERIVED = """\
## Keys that make a task from another one

A task that extends another one needs a `name` of its own, unless it only adds `class_split`, `corruption` or
`attack`."""


def page() -> str:
    """Return the page."""
    return sections(
        INTRODUCTION,
        "## Every task",
        _table(Task, Task.known_keys()),
        "## Tasks with classes",
        "Every kind of task has these keys, except multiple choice.",
        _table(LabelledTask, _added(LabelledTask, Task)),
        *(part for kind in Task.kinds.values() for part in _kind(kind)),
        DERIVED,
        table(["key", "what it does"], ([f"`{key}`", text(words)] for key, words in OF_ANOTHER_TASK.items())),
        *(part for key, kind in PARTS.items() for part in _part(key, kind)),
    )


def _kind(kind: type[Task]) -> tuple[str, ...]:
    """Return the section of one kind of task."""
    base = LabelledTask if issubclass(kind, LabelledTask) else Task
    name = f"{kind.kind} tasks".capitalize()
    selected = f"A definition with the key `{kind.key}` is of this kind." if kind.key else ""
    return f"## {name}", described(kind)[0], selected, _table(kind, _added(kind, base))


def _part(key: str, kind: type) -> tuple[str, ...]:
    return f"## Keys of `{key}`", described(kind)[0], _table(kind, [field.name for field in fields(kind)])


def _added(kind: type[Task], base: type[Task]) -> list[str]:
    return [key for key in kind.known_keys() if key not in base.known_keys()]


def _table(kind: type, keys: Iterable[str]) -> str:
    known, hints, words = {field.name: field for field in fields(kind)}, get_type_hints(kind), described(kind)[1]
    rows = []
    for key in keys:
        is_part, is_required = key in PARTS, known[key].default is known[key].default_factory is MISSING
        takes = f"mapping, see [below](#keys-of-{key})" if is_part else values(hints[key])
        usual = "required" if is_required else "" if is_part else default(known[key])
        rows.append([f"`{key}`", takes, usual, text(words[key])])
    return table(["key", "values", "default", "what it says"], rows)
