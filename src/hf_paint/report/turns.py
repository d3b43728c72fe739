"""Taking turns: urgent work goes first, and interrupts what is not urgent."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition


class Interrupted(Exception):
    """Urgent work waits, so this work must start again later."""


class Turns:
    """A lock that urgent work gets first.

    Example:
        >>> turns = Turns()
        >>> with turns.one(urgent=False):
        ...     turns.check()
    """

    def __init__(self) -> None:
        self._condition = Condition()
        self._is_taken = False
        self._urgent = 0
        self._is_urgent = False

    @contextmanager
    def one(self, *, urgent: bool) -> Iterator[None]:
        """Wait for a turn; it ends with the block."""
        with self._condition:
            self._urgent += urgent
            self._condition.wait_for(lambda: not self._is_taken and (urgent or not self._urgent))
            self._urgent -= urgent
            self._is_taken, self._is_urgent = True, urgent
        try:
            yield
        finally:
            with self._condition:
                self._is_taken = False
                self._condition.notify_all()

    def check(self) -> None:
        """Give way from inside a turn that is not urgent.

        Raises:
            Interrupted: If urgent work waits.
        """
        if self._urgent and not self._is_urgent:
            raise Interrupted
