"""Read and write at a position of an open file, from several threads, also where the system has no call for it."""

import os
from threading import Lock


HAS_POSITIONAL_CALLS = hasattr(os, "preadv") and hasattr(os, "pwrite")
"""False on Windows, where a file is moved to the position first, by one thread at a time."""
_MOVING = Lock()


def read_at(file: int, buffer: memoryview, offset: int) -> int:
    """Read bytes into a buffer.

    Args:
        file: File descriptor.
        buffer: Buffer to fill, at most to its end.
        offset: Position in the file.

    Returns:
        Number of bytes read; 0 at the end of the file.
    """
    if HAS_POSITIONAL_CALLS:
        return os.preadv(file, [buffer], offset)
    with _MOVING:
        os.lseek(file, offset, os.SEEK_SET)
        data = os.read(file, len(buffer))
    buffer[: len(data)] = data
    return len(data)


def write_at(file: int, data: memoryview, offset: int) -> int:
    """Write bytes, and return how many were written.

    Args:
        file: File descriptor.
        data: Bytes to write.
        offset: Position in the file.
    """
    if HAS_POSITIONAL_CALLS:
        return os.pwrite(file, data, offset)
    with _MOVING:
        os.lseek(file, offset, os.SEEK_SET)
        return os.write(file, data)
