"""Splits that a run has loaded. Its checks, its training and its evaluation all ask for them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar

from hf_paint.tasks.task import Task


T = TypeVar("T")


class LoadedSplits(Generic[T]):
    """Splits by task and name. Inside `kept`, each of them is loaded once; outside, always anew.

    Data sets may change between two runs, so nothing is kept longer than a run.

    Example:
        >>> splits, loads = LoadedSplits(), iter(range(10))
        >>> with splits.kept():
        ...     [splits.get(task, "test", lambda: next(loads)) for _ in range(3)]
        [0, 0, 0]
        >>> splits.get(task, "test", lambda: next(loads))
        1
    """

    def __init__(self) -> None:
        self._loaded: ContextVar[list[tuple[Task, str, T]] | None] = ContextVar("loaded_splits", default=None)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is loaded until the outermost of these blocks ends; also a decorator."""
        if self._loaded.get() is not None:
            yield
            return
        token = self._loaded.set([])
        try:
            yield
        finally:
            self._loaded.reset(token)

    def get(self, task: Task, name: str, load: Callable[[], T]) -> T:
        """Return a split of a task, and load it if it is not kept. Streams are never kept: reading changes them."""
        loaded = self._loaded.get()
        if loaded is None or task.streaming:
            return load()
        for other, other_name, split in loaded:
            if other_name == name and other == task:
                return split
        split = load()
        loaded.append((task, name, split))
        return split
