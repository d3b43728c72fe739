"""The pixel cache: images that were decoded once, in files that are verified, limited in size and shared by runs.

An entry is a folder that gets its name when it is complete:

    pixels.bin    uint8, one image after the other
    labels.npy    int64, the class index of each image
    meta.json     the shape of the pixels, and the CRC-32 of the other two files
"""

import functools
import json
import logging
import math
import os
import shutil
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from huggingface_hub import constants
from numpy.typing import NDArray

from hf_paint.errors import InputError


Examples = Generator[tuple[NDArray[np.uint8], int], None, None]
"""The pixels of each image, shape (3, height, width), and its class index."""
GB = 1_000_000_000
DEFAULT_LIMIT = "200"
"""GB of pixels that are kept: the train split of ImageNet at 224 pixels has 193 GB."""
STREAM_STEP = GB // 10
"""Bytes for which room is made at a time when nobody knows how many there will be."""
PARTIAL = ".partial"
logger = logging.getLogger(__name__)


def open_pixels(
    folder: Path, decode: Callable[[], Examples], *, name: str, num_bytes: int | None, verify: bool = True
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Open an entry of the cache, which is decoded first if it is not there or no longer what was written.

    Of several runs that want the same entry at once, one decodes and the others wait.

    Args:
        folder: The entry; its siblings are the other entries.
        decode: Makes the images, in order.
        name: What the images are, for messages.
        num_bytes: How large the pixels will be; None if that is not known, as for a stream.
        verify: Whether to compare checksums, and not only sizes.

    Returns:
        The pixels (num_images, 3, height, width), memory-mapped, and the labels (num_images,).

    Raises:
        InputError: If there are no images, or no room for them in the cache or on the disk.
    """
    with _locked(folder):
        if not _is_whole(folder, verify=verify):
            if folder.exists():
                logger.warning("The cached pixels of the %s are damaged: decoding them again (%s).", name, folder)
                shutil.rmtree(folder)
            _fill(folder, decode, name, num_bytes)
        with suppress(OSError):  # a cache that may only be read
            os.utime(folder)  # the entries that were not opened for longest are the first to go
        shape = tuple(json.loads((folder / "meta.json").read_text())["shape"])
        return np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r", shape=shape), np.load(folder / "labels.npy")


def cache_limit() -> float:
    """Return how many bytes of pixels are kept: `$HF_PAINT_CACHE_LIMIT`, which is in GB.

    Raises:
        InputError: If the variable is not a positive number.
    """
    value = os.environ.get("HF_PAINT_CACHE_LIMIT", DEFAULT_LIMIT)
    with suppress(ValueError):
        if float(value) > 0:
            return float(value) * GB
    raise InputError(
        f"HF_PAINT_CACHE_LIMIT is {value!r}; it must be a positive number of GB, such as {DEFAULT_LIMIT}."
    )


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold an entry: whoever else wants to open or decode it waits."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = _lock(folder)
    held: AbstractContextManager[Any] = nullcontext()
    try:
        held = lock.acquire(timeout=1)
    except Timeout:
        logger.info("Waiting for another process, which is at work on %s.", folder)
        held = lock.acquire()
    except OSError:
        logger.info("%s cannot be locked: it is taken as a cache that may only be read.", folder)
    with held:
        yield


def _lock(folder: Path) -> FileLock:
    """Return the lock of an entry; its file is never deleted, as somebody may be waiting for it."""
    return FileLock(folder.with_name(f"{folder.name.removesuffix(PARTIAL)}.lock"))


def _is_whole(folder: Path, *, verify: bool) -> bool:
    try:
        meta = json.loads((folder / "meta.json").read_text())
        if (folder / "pixels.bin").stat().st_size != math.prod(meta["shape"]):
            return False
        return not verify or all(
            _checksum(folder / name) == meta["crc32"][name] for name in ("pixels.bin", "labels.npy")
        )
    except (OSError, ValueError, KeyError, TypeError):  # there is no entry, or no meta.json that can be read
        return False


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file, which is read once per process as long as nobody writes to it.

    One core reads and sums 4 GB/s out of the page cache: 2 s for 50 000 images of 224 pixels (7.5 GB), which take a
    minute to decode on two. Off a disk it is the disk that takes the time, and the evaluation then finds the pages.
    """
    return _read_checksum(path, path.stat().st_mtime_ns)


@functools.cache
def _read_checksum(path: Path, modified_ns: int) -> int:
    checksum = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            checksum = zlib.crc32(block, checksum)
    return checksum


def _fill(folder: Path, decode: Callable[[], Examples], name: str, num_bytes: int | None) -> None:
    """Decode an entry, whose lock the caller holds."""
    partial = folder.with_name(folder.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)  # a run was killed here
    partial.mkdir()
    try:
        room, labels, checksum = num_bytes or 0, [], 0
        _make_room(partial, room, name)
        # Written and not memory-mapped: a full disk is then an error, and not a signal that kills the process.
        with (partial / "pixels.bin").open("wb") as file, closing(decode()) as examples:
            for pixels, label in examples:
                if file.tell() + pixels.nbytes > room:
                    room = file.tell() + STREAM_STEP
                    _make_room(partial, room, name)
                file.write(pixels.data)
                checksum = zlib.crc32(pixels.data, checksum)
                labels.append(label)
        if not labels:
            raise InputError(f"The {name} is empty.")
        np.save(partial / "labels.npy", np.array(labels, dtype=np.int64))
        checksums = {"pixels.bin": checksum, "labels.npy": _checksum(partial / "labels.npy")}
        meta = {"shape": [len(labels), *pixels.shape], "crc32": checksums}
        (partial / "meta.json").write_text(json.dumps(meta))
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _make_room(partial: Path, size: int, name: str) -> None:
    """Delete the entries that were not opened for longest, until one that is being decoded can grow to `size` bytes.

    An entry that is being opened or decoded is locked, and stays. One that a run has opened may go: a memory-mapped
    file that is deleted stays readable, and on the disk, until the run ends.
    """
    limit = cache_limit()
    if size > limit:
        raise InputError(
            f"The pixels of the {name} need at least {size / GB:.1f} GB, and the cache may hold {limit / GB:g} GB. "
            "Set HF_PAINT_CACHE_LIMIT to more GB, or choose a smaller split."
        )
    usage = {path: _usage(path) for path in partial.parent.iterdir() if path.is_dir()}
    missing = size - usage.pop(partial)[1]
    others = sum(held for _, held in usage.values())
    if missing > shutil.disk_usage(partial).free + others:
        usage.clear()  # deleting everything would not be enough
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
            f"The pixels of the {name} need at least {missing / GB:.1f} GB, and {free / GB:.1f} GB are free at "
            f"{partial.parent}. Make room there, or set HF_PAINT_CACHE to a folder on a larger disk."
        )


def _usage(folder: Path) -> tuple[float, int]:
    """Return when an entry was opened last, and its size; zeros for one that was deleted just now."""
    with suppress(FileNotFoundError):
        return folder.stat().st_mtime, sum(path.stat().st_size for path in folder.iterdir())
    return 0.0, 0


def default_cache_dir() -> Path:
    """Return where heads and decoded pixels are kept: `$HF_PAINT_CACHE`, or `hf_paint` in the Hugging Face home."""
    return Path(os.environ.get("HF_PAINT_CACHE", Path(constants.HF_HOME) / "hf_paint")).expanduser()
