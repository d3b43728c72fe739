"""The lock of a run folder: one process works in it, or any number of processes read it."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hf_paint.errors import InputError
from hf_paint.temporary import remove_leftovers_below


if sys.platform != "win32":
    import fcntl

LOCK = ".lock"
PATIENCE = 0.5
"""Seconds to wait for another process that only looks whether the folder is in use."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder, so that no other process works in it or reads it; killed ones leave nothing.

    Nothing is done if there is no such folder.

    Raises:
        InputError: If another process holds it.
    """
    if not folder.is_dir():
        yield
        return
    lock = FileLock(folder / LOCK)
    with suppress(Timeout):
        lock.acquire(timeout=PATIENCE)
    if not lock.is_locked:
        raise _in_use(folder)
    try:
        remove_leftovers_below(folder)
        yield
    finally:
        lock.release()


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Share the lock of a run folder with others that read it, so that no process works in it.

    Windows has no such locks: there, nobody else may read it either.

    Raises:
        InputError: If a process works in it.
    """
    if sys.platform == "win32" or not folder.is_dir():
        with working_in(folder):
            yield
        return
    file = os.open(folder / LOCK, os.O_RDONLY | os.O_CREAT, 0o644)
    try:
        end = time.monotonic() + PATIENCE
        while not _share(file):
            if time.monotonic() > end:
                raise _in_use(folder)
            time.sleep(PATIENCE / 10)
        yield
    finally:
        os.close(file)


def check_idle(folder: Path) -> None:
    """Check that no process works in a run folder, before it is read.

    Raises:
        InputError: If a process works in it.
    """
    try:
        (folder / LOCK).open("rb").close()
        with reading(folder):
            pass
    except OSError:  # nobody ever worked here, or the lock belongs to another user
        return


def _share(file: int) -> bool:
    """Share the lock of an open file, and return whether that was possible."""
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _in_use(folder: Path) -> InputError:
    return InputError(f"Another process is using {folder}. Wait until it finishes, or choose another folder.")
