"""What a run has read from its data: listings of folders, rows and splits. Its checks, training and evaluation ask."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary


K = TypeVar("K")
V = TypeVar("V")


class _Block:
    """A block in which everything is read once."""


_block: ContextVar[_Block | None] = ContextVar("block", default=None)


@contextmanager
def reading_once() -> Iterator[None]:
    """Keep what is read until the outermost of these blocks ends; also a decorator.

    Data sets may change between two runs, so nothing is kept longer than a run.
    """
    if _block.get() is not None:
        yield
        return
    token = _block.set(_Block())
    try:
        yield
    finally:
        _block.reset(token)


class ReadOnce(Generic[K, V]):
    """Values by name and key. Inside `reading_once`, each of them is read once; outside, always anew.

    Example:
        >>> splits, loads = ReadOnce[str, int](), iter(range(10))
        >>> with reading_once():
        ...     [splits.get("pets", "test", lambda: next(loads)) for _ in range(3)]
        [0, 0, 0]
        >>> splits.get("pets", "test", lambda: next(loads))
        1
    """

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[_Block, dict[Hashable, list[tuple[K, V]]]] = WeakKeyDictionary()

    def get(self, name: Hashable, key: K, read: Callable[[], V]) -> V:
        """Return what `read` returned for this name and an equal key, which need not be hashable."""
        block = _block.get()
        if block is None:
            return read()
        known = self._known.setdefault(block, {}).setdefault(name, [])
        for other, value in known:
            if other == key:
                return value
        value = read()
        known.append((key, value))
        return value
