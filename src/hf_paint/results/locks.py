"""The lock of a run folder: one process at a time works in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

from hf_paint.errors import InputError


PATIENCE = 0.5
"""Seconds to wait for another process that only looks whether the folder is in use."""


@contextmanager
def working_in(folder: Path) -> Iterator[None]:
    """Hold the lock of a run folder; nothing is done if there is no such folder.

    Raises:
        InputError: If another process holds it.
    """
    if not folder.is_dir():
        yield
        return
    lock = FileLock(folder / ".lock")
    with suppress(Timeout):
        lock.acquire(timeout=PATIENCE)
    if not lock.is_locked:
        raise InputError(f"Another process is using {folder}. Wait until it finishes, or choose another folder.")
    try:
        yield
    finally:
        lock.release()


def check_idle(folder: Path) -> None:
    """Check that no process works in a run folder, before it is read.

    Raises:
        InputError: If a process holds its lock.
    """
    try:
        (folder / ".lock").open("rb").close()
        with working_in(folder):
            pass
    except OSError:  # nobody ever worked here, or the lock belongs to another user
        return
