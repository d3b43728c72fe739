"""Keys and the runs that read them: a value that a run would not read is refused, never passed over."""

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Generic, TypeVar

from hf_paint.errors import InputError


Job = TypeVar("Job")


@dataclass(frozen=True)
class Reader(Generic[Job]):
    """When a job reads a key.

    Attributes:
        reads: Called as `reads(job)`; returns whether the job reads the key.
        advice: Why it may not, and what to do.
    """

    reads: Callable[[Job], bool]
    advice: str


def refuse_unread(
    given: Mapping[str, object], defaults: Mapping[str, object], readers: Mapping[str, Reader[Job]], job: Job
) -> None:
    """Refuse a key that was given but that the job does not read. A key without a reader is always read.

    A value that switches something off, like 0 or an empty list, is met by not reading it.

    Args:
        given: Keys with the values that differ from the defaults.
        defaults: Default of every key.
        readers: Key -> when it is read.
        job: What is about to run.

    Raises:
        InputError: If a key would have no effect.
    """
    for key, value in given.items():
        is_off = not value and defaults.get(key) is not True
        reader = readers.get(key)
        if reader is not None and not is_off and not reader.reads(job):
            shown = str(value).lower() if isinstance(value, bool) else str(value)
            raise InputError(f"`{key}: {shown}` would have no effect. {reader.advice}")


def defaults_of(kind: type) -> dict[str, object]:
    """Return the default of every field of a dataclass that has one."""
    defaults = {f.name: f.default for f in fields(kind) if f.default is not MISSING}
    made = {f.name: f.default_factory() for f in fields(kind) if f.default_factory is not MISSING}
    return defaults | made


def is_default(value: object, default: object) -> bool:
    """Return whether a value is the default, which the command line parser may spell differently if it is empty."""
    unset = {"": None, "no": False}
    return bool(value == default or unset.get(str(default), default) == value)
