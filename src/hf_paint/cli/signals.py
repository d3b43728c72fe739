"""Ctrl+C and SIGTERM: one exception that unwinds the command, and an end in a few seconds whatever holds it up.

Python raises the exception of a signal wherever the main thread happens to be. A destructor or a callback swallows it,
an `except` clause turns it into another error, and a lock that was just taken may never be released. Therefore:

- an `Interrupted` that dies before it has arrived here is raised again;
- whatever arrives here after a signal is the interruption, whatever it was on its way;
- a thread that waits for nothing but a pipe ends the process if that takes too long, or at a second Ctrl+C.

Windows has no such signals: there, Ctrl+C is the `KeyboardInterrupt` that Python makes of it.
"""

import ctypes
import math
import multiprocessing
import os
import select
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from types import FrameType
from typing import Any, TypeAlias

from hf_paint.cli.console import say
from hf_paint.errors import is_first_process


SIGNALS = (signal.SIGINT, signal.SIGTERM)
TIME_TO_END = 4.0
"""Seconds from a signal to the end of the process, at most; no file is lost then, as none is after SIGKILL."""
DOUBLE = 0.2
"""Seconds within which a repeated signal is the same one: launchers send it to a process and to its group."""
MESSAGE = "hf-paint: interrupted; run the same command again to resume"
PR_SET_PDEATHSIG = 1
"""Option of Linux: the signal that a process gets when the thread that started it ends."""
IS_POSIX = hasattr(os, "register_at_fork")
Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None
ExceptHook: TypeAlias = Callable[..., object]
_pipes: dict[int, int] = {}
"""Pipe -> the main thread, for each command that runs."""


class Interrupted(KeyboardInterrupt):
    """Raised in the main thread by a signal. A class of its own, because only those can be watched."""


def until_interrupted(command: Callable[[], int]) -> int:
    """Call a command and return its exit code, or what shells report: 130 after SIGINT and 143 after SIGTERM.

    The first process of a launcher then says how to go on. Signals are handled in the main thread only, and those
    that the process was started to ignore, as `nohup` does, stay ignored.
    """
    if threading.current_thread() is not threading.main_thread():
        return command()
    interruption = _Interruption()
    with _handled(interruption) if IS_POSIX else nullcontext():
        try:
            try:
                code = command()
            finally:
                interruption.arrived = True
        except BaseException as error:
            interruption.arrived = True  # it may have been raised just before the line above
            if interruption.code is None:
                if not isinstance(error, KeyboardInterrupt):
                    raise
                interruption.code = 128 + signal.SIGINT
            interruption.tell(lambda: say(MESSAGE))
            return interruption.code
        if interruption.code is not None:
            interruption.code = code
        return code


class _Interruption:
    """The signals of one command.

    Attributes:
        code: Exit code, once a signal has come.
        arrived: The command has ended, so that nothing is raised any more.
        repeats: How often the exception was raised again, each time by a signal to this process.
    """

    def __init__(self) -> None:
        self.code: int | None = None
        self.arrived, self.repeats = False, 0
        self._told = False
        self._raised: weakref.ref[Interrupted] | None = None

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise the exception, unless it is on its way. Python calls this in the main thread."""
        self.code = self.code or 128 + number
        if not self.arrived and (self._raised is None or self._raised() is None):
            error = Interrupted()
            self._raised = weakref.ref(error, self._raise_again)
            raise error

    def _raise_again(self, dead: object) -> None:
        if not self.arrived and self.code is not None:
            self.repeats += 1
            signal.pthread_kill(threading.main_thread().ident or 0, self.code - 128)

    def tell(self, speak: Callable[[], object]) -> None:
        """Say how to go on, once, in the process that speaks for all."""
        if is_first_process() and not self._told:
            with suppress(OSError, ValueError):  # nobody is listening any more
                speak()
            self._told = True

    def watch(self, pipe: int) -> None:
        """End the process if it takes too long to end by itself, or at a second Ctrl+C.

        Args:
            pipe: Yields the number of each signal, even while the main thread is busy or blocked. It is closed when
                the command has ended; if the process ends with it, some other thread may still hold it up.
        """
        deadline, seen = math.inf, 0
        while numbers := _read(pipe, deadline):
            fresh = seen + sum(number in SIGNALS for number in numbers)
            if fresh - self.repeats > 0 and deadline == math.inf:
                self.code = self.code or 128 + next(number for number in numbers if number in SIGNALS)
                deadline = time.monotonic() + TIME_TO_END
            elif fresh - self.repeats > 1 and signal.SIGINT in numbers:
                if deadline - time.monotonic() < TIME_TO_END - DOUBLE:
                    self._end()
                fresh -= 1
            seen = fresh
        os.close(pipe)
        if deadline < math.inf:
            threading.main_thread().join(max(0.0, deadline - time.monotonic()))
            if numbers is None or not threading.main_thread().is_alive():
                time.sleep(max(0.0, deadline - time.monotonic()))
                self._end()

    def _end(self) -> None:
        self.tell(lambda: os.write(2, f"\n{MESSAGE}\n".encode()))
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(1 if self.code is None else self.code)


def _read(pipe: int, deadline: float) -> bytes | None:
    """Return what is in a pipe once there is something, nothing if it is closed, or None at the deadline."""
    left = None if deadline == math.inf else max(0.0, deadline - time.monotonic())
    return os.read(pipe, 64) if select.select([pipe], [], [], left)[0] else None


@contextmanager
def _handled(interruption: _Interruption) -> Iterator[None]:
    """Let an interruption handle the signals inside the block, and say what nobody catches only if there was none."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    handled = [number for number, handler in before.items() if handler not in (signal.SIG_IGN, None)]
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=interruption.watch, args=(reading,), name="signals", daemon=True).start()
    unraisable, in_thread = sys.unraisablehook, threading.excepthook
    sys.unraisablehook = lambda args: None if interruption.code else unraisable(args)
    threading.excepthook = lambda args: None if interruption.code else in_thread(args)
    wakeup = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _pipes[writing] = threading.get_ident()
    try:
        for number in handled:
            signal.signal(number, interruption.handle)
        yield
    finally:
        for number in handled:
            signal.signal(number, _afterwards(before[number]))
        signal.set_wakeup_fd(wakeup)
        del _pipes[writing]
        os.close(writing)
        sys.unraisablehook, threading.excepthook = unraisable, in_thread


def _afterwards(handler: Handler) -> Handler:
    """Return a handler that ends a process whose main thread has ended, where Python would print a traceback."""

    def handle(number: int, frame: FrameType | None) -> None:
        if not threading.main_thread().is_alive():
            os._exit(128 + number)
        signal.signal(number, handler)
        signal.raise_signal(number)

    return handle if handler in (signal.SIG_DFL, signal.default_int_handler) else handler


def _leave_to_parent() -> None:
    """Let a forked process, such as a dataloader worker, end with its parent, which hears the same signals."""
    if not _pipes:
        return
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if threading.get_ident() in _pipes.values() and hasattr(_LIBC, "prctl"):
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for pipe in _pipes:
        os.close(pipe)  # else the parent would not see that it is closed
    _pipes.clear()
    sys.excepthook = partial(_say_unless_cut_off, sys.excepthook)


def _say_unless_cut_off(say_error: ExceptHook, kind: type[BaseException], error: BaseException, *rest: Any) -> None:
    """Say an error, except in the thread of a worker that hands tensors to the parent when the parent has ended."""
    if not isinstance(error, (ConnectionError, EOFError)):
        say_error(kind, error, *rest)


if IS_POSIX:
    _LIBC = ctypes.CDLL(None)
    os.register_at_fork(after_in_child=_leave_to_parent)
