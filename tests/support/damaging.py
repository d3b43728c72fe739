"""Ways in which a file can be damaged."""

import shutil
from pathlib import Path


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def empty(path):
    path.write_bytes(b"")


def flip(path):
    """Flip one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(bytes(content))


def make_folder(path):
    path.unlink()
    path.mkdir()


def fill_with_noise(path):
    size = path.stat().st_size
    path.write_bytes(bytes((17 * i * i + 251 * i + 129) % 256 for i in range(min(size, 1 << 16))))


def remove(path):
    path.unlink()


DAMAGES = {
    "truncated": truncate,
    "emptied": empty,
    "one bit flipped": flip,
    "a folder": make_folder,
    "noise": fill_with_noise,
    "removed": remove,
}
"""What happened to a file -> a function that does it, given its path."""


def replace_by(other: Path):
    """Return a function that replaces a file by another one."""

    def replace(path):
        shutil.copyfile(other, path)

    return replace
