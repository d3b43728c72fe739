"""Temporary folders that tell their owner, so that those of killed processes can be removed, and only those."""

import functools
import hashlib
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path


DAY = 24 * 60 * 60
BOOT = Path("/proc/sys/kernel/random/boot_id")
PROCESSES = Path("/proc/self/ns/pid")
"""On Linux: what changes when the machine starts, and the namespace in which its processes are numbered."""
KNOWS_PROCESSES = os.name == "posix"
"""Whether one may ask for a process: on Windows, `os.kill` would send it a Ctrl+C."""
_TOKEN = secrets.token_hex(4)
_NUMBERS = count()
_NAME = re.compile(r"\.(?P<what>[a-z]+)-(?P<host>[0-9a-f]{8})-(?P<process>\d+)-(?P<token>[0-9a-f]{8})-\w+")
_cleaned: set[tuple[int, Path]] = set()
"""(process, folder): forked processes clean up for themselves."""


@contextmanager
def temporary_folder(parent: Path, what: str = "partial") -> Iterator[Path]:
    """Make a folder below `parent`, which is made if necessary, and remove it and all in it after the block.

    Before this process first does so in `parent`, it removes what killed processes have left there.

    Example:
        >>> with temporary_folder(tmp_path) as folder:
        ...     _ = (folder / "a.txt").write_text("a")
        >>> folder.exists()
        False
    """
    parent.mkdir(parents=True, exist_ok=True)
    if _is_first(parent):
        remove_leftovers(parent)
    folder = parent / f"{own_prefix(what)}{next(_NUMBERS)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # one of its files could not be removed the first time
            shutil.rmtree(folder, ignore_errors=True)


def own_prefix(what: str) -> str:
    """Return how the names of temporary folders begin that this process makes in another way."""
    return f".{what}-{_host()}-{os.getpid()}-{_TOKEN}-"


def remove_leftovers(parent: Path) -> None:
    """Remove the temporary folders in a folder whose owners have ended.

    Whether a process of another machine or container has ended is not known, so those of others stay for a day.
    """
    for path in parent.glob(".*-*-*-*-*"):
        if (match := _NAME.fullmatch(path.name)) and not _is_owned(path, match):
            shutil.rmtree(path, ignore_errors=True)


def remove_leftovers_below(folder: Path) -> None:
    """Remove the temporary folders in a folder, and in all folders below it, whose owners have ended.

    A process that is killed just after it has moved its last file leaves an empty folder, and no later call may
    write there.
    """
    for parent, names, _ in os.walk(folder):
        remove_leftovers(Path(parent))
        names[:] = [name for name in names if not _NAME.fullmatch(name)]


def clean_once(folder: Path) -> None:
    """Remove the leftovers in a folder and in all folders below it, the first time that this process asks."""
    if _is_first(folder / "**"):
        remove_leftovers_below(folder)


def without_temporary(path: Path) -> Path:
    """Return the place that a file in a temporary folder will have.

    Example:
        >>> without_temporary(Path("run/.partial-0123abcd-17-89abcdef-0/curve.json")).as_posix()
        'run/curve.json'
    """
    return Path(*(part for part in path.parts if not _NAME.fullmatch(part)))


def _is_first(place: Path) -> bool:
    known = os.getpid(), place.absolute()
    is_first = known not in _cleaned
    _cleaned.add(known)
    return is_first


def _is_owned(path: Path, match: re.Match[str]) -> bool:
    if match["host"] != _host() or not KNOWS_PROCESSES:
        with suppress(OSError):
            return time.time() - path.stat().st_mtime < DAY
        return True
    process = int(match["process"])
    return match["token"] == _TOKEN if process == os.getpid() else _is_alive(process)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@functools.cache
def _host() -> str:
    """Return what stands for all processes that see each other: containers may share the name of their machine."""
    parts = [socket.gethostname()]
    with suppress(OSError):
        parts += [BOOT.read_text(), str(PROCESSES.readlink())]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
