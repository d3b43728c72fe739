"""The pixel cache: decoded images on disk, verified by checksum, limited in total size, and shared between runs.

Each entry is a folder, which is renamed from a temporary name once it is complete:

    pixels.bin    uint8, one image after another; images of different sizes are one long line of bytes
    labels.npy    int64, class index of each image, or its classes, one row per image
    meta.json     shape of the pixels, and CRC-32 checksums of the other two files
    verified.json when, where and in what state the files were last compared with their checksums
"""

import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TypeAlias

import numpy as np
from filelock import FileLock, Timeout
from huggingface_hub import constants
from numpy.typing import NDArray

from hf_paint.data.checksums import is_whole
from hf_paint.errors import InputError
from hf_paint.files import expand
from hf_paint.fingerprints import file_checksum
from hf_paint.temporary import clean_once


Label: TypeAlias = int | list[int]
"""Class index of an image, or its classes in a multi-label task, padded to the same length for all images."""
Examples = Generator[tuple[NDArray[np.uint8], Label], None, None]
"""Yields the pixels of each image, shape (3, height, width), and its label."""
GB = 1_000_000_000
DEFAULT_LIMIT = "200"
"""Maximum size of the cache in GB. ImageNet's train split takes 193 GB at 224 pixels."""
STREAM_STEP = GB // 10
"""How many bytes to make room for at a time if the total size is unknown."""
PARTIAL = ".partial"
logger: logging.Logger = logging.getLogger(__name__)


def open_pixels(
    folder: Path, decode: Callable[[], Examples], *, name: str, num_bytes: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Open a cache entry; if it is missing or damaged, decode the images first.

    If several processes open the same entry, one of them decodes the images and the others wait.

    Args:
        folder: Folder of the entry; other entries are its siblings.
        decode: Called as `decode()`; returns a generator of pixels and labels.
        name: What to call the images in messages.
        num_bytes: Size of the pixels in bytes, or None if it is unknown, as for a stream.

    Returns:
        The pixels (num_images, 3, height, width), memory-mapped, and the labels, one entry or row per image. If the
        images differ in size, the pixels are (num_bytes,).

    Raises:
        InputError: If there are no images, or they do not fit into the cache or on the disk.
    """
    with locked(folder):
        if not is_whole(folder):
            if folder.exists():
                logger.warning("The cached pixels of the %s are damaged and will be decoded again (%s).", name, folder)
                shutil.rmtree(folder)
            _fill(folder, decode, name, num_bytes)
        with suppress(OSError):  # a read-only cache
            os.utime(folder)  # the least recently opened entries are deleted first
        return _map(folder), np.load(folder / "labels.npy")


def find_pixels(folder: Path) -> NDArray[np.uint8] | None:
    """Return the pixels of a cache entry (num_images, 3, height, width), or None if it is missing or damaged."""
    with suppress(OSError):
        if is_whole(folder):
            return _map(folder)
    return None


def _map(folder: Path) -> NDArray[np.uint8]:
    """Map the pixels of an entry into memory. Copy on write: torch would warn of memory that cannot be written."""
    shape = tuple(json.loads((folder / "meta.json").read_text())["shape"])
    return np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="c", shape=shape)


def cache_limit() -> float:
    """Return the maximum size of the cache in bytes, read from `$HF_PAINT_CACHE_LIMIT` (in GB).

    Raises:
        InputError: If the variable is not a positive number.
    """
    value = os.environ.get("HF_PAINT_CACHE_LIMIT", DEFAULT_LIMIT)
    with suppress(ValueError):
        if float(value) > 0:
            return float(value) * GB
    raise InputError(
        f"HF_PAINT_CACHE_LIMIT must be a positive number of GB, for instance {DEFAULT_LIMIT}; got {value!r}."
    )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock an entry of a cache, so that other processes wait before they open or make it."""
    lock = _lock(folder)
    guard: AbstractContextManager[object] = nullcontext()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        guard = lock.acquire(timeout=1)
    except Timeout:
        logger.info("Waiting for another process that is using %s.", folder)
        guard = lock.acquire()
    except OSError:
        logger.info("%s cannot be locked; it is used as a read-only cache.", folder)
    with guard:
        yield


def _lock(folder: Path) -> FileLock:
    """Return the lock of an entry; its file is never deleted, because another process may be waiting for it."""
    return FileLock(folder.with_name(f"{folder.name.removesuffix(PARTIAL)}.lock"))


def _fill(folder: Path, decode: Callable[[], Examples], name: str, num_bytes: int | None) -> None:
    """Decode the images of an entry, which the caller must have locked."""
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # left by a process that was killed
    partial.mkdir()
    try:
        room, labels, checksum = num_bytes or 0, [], 0
        _make_room(partial, room, name)
        # A full disk raises an error in `write`, whereas writing to a memory map would kill the process.
        with (partial / "pixels.bin").open("wb") as file, closing(decode()) as examples:
            for pixels, label in examples:
                if file.tell() + pixels.nbytes > room:
                    room = file.tell() + STREAM_STEP
                    _make_room(partial, room, name)
                file.write(pixels.data)
                checksum = zlib.crc32(pixels.data, checksum)
                labels.append(label)
        if not labels:
            raise InputError(f"The {name} contains no images.")
        np.save(partial / "labels.npy", np.array(labels, dtype=np.int64))
        checksums = {"pixels.bin": checksum, "labels.npy": file_checksum(partial / "labels.npy")}
        meta = {"shape": _shape(len(labels), pixels, (partial / "pixels.bin").stat().st_size), "crc32": checksums}
        (partial / "meta.json").write_text(json.dumps(meta))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _shape(number: int, last: NDArray[np.uint8], num_bytes: int) -> list[int]:
    """Return the shape of all images, or their size in bytes if they have not all the size of the last one."""
    return [number, *last.shape] if number * last.nbytes == num_bytes else [num_bytes]


def _make_room(partial: Path, size: int, name: str) -> None:
    """Delete the least recently opened entries until the entry that is being written can grow to `size` bytes.

    Entries that another process has locked, because it is opening or decoding them, are not deleted. Entries in use
    may be: a deleted file that is memory-mapped stays readable, and keeps its disk space, until the run ends.
    """
    limit = cache_limit()
    if size > limit:
        raise InputError(
            f"Caching the pixels of the {name} needs at least {size / GB:.1f} GB, but the cache is limited to "
            f"{limit / GB:g} GB. Raise HF_PAINT_CACHE_LIMIT (in GB), or choose a smaller split."
        )
    usage = {path: _usage(path) for path in partial.parent.iterdir() if path.is_dir()}
    missing = size - usage.pop(partial)[1]
    others = sum(num_bytes for _, num_bytes in usage.values())
    if missing > shutil.disk_usage(partial).free + others:
        usage.clear()  # even deleting everything would not be enough
    for folder, (_, freed) in sorted(usage.items(), key=lambda item: item[1]):
        if others + size <= limit and missing <= shutil.disk_usage(partial).free:
            break
        with suppress(Timeout), _lock(folder).acquire(timeout=0):
            logger.info("Deleting cached pixels to make room (%s, %.1f GB).", folder, freed / GB)
            shutil.rmtree(folder, ignore_errors=True)
            others -= freed
    free = shutil.disk_usage(partial).free
    if missing > free:
        raise InputError(
            f"Caching the pixels of the {name} needs at least {missing / GB:.1f} GB, but only {free / GB:.1f} GB are "
            f"free at {partial.parent}. Free up space there, or set HF_PAINT_CACHE to a folder on a larger disk."
        )


def _usage(folder: Path) -> tuple[float, int]:
    """Return when an entry was last opened, and its size; both are zero if it has just been deleted."""
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime, sum(path.stat().st_size for path in folder.iterdir())
    return 0.0, 0


def default_cache_dir() -> Path:
    """Return the cache folder for heads and pixels: `$HF_PAINT_CACHE`, or `hf_paint` in the Hugging Face home."""
    folder = expand(os.environ.get("HF_PAINT_CACHE", Path(constants.HF_HOME) / "hf_paint"))
    clean_once(folder)
    return folder
