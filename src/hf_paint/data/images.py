"""The images of a split: read, named when they are corrupt, and decoded once into a cache of pixels."""

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_paint.data.pixel_cache import Examples, open_pixels
from hf_paint.data.splits import Split
from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError, one_line
from hf_paint.fingerprints import fingerprint_values


Item = TypeVar("Item")
Made = TypeVar("Made")
MAX_THREADS = 32
"""More would wait for each other: a few per cent of the work on an image is Python's."""


class CachedImages(Dataset[dict[str, Any]]):
    """Images that are decoded once and then read from a memory-mapped file, without augmentation.

    Args:
        split: The rows.
        transform: Makes the pixels.
        cache_dir: Where the pixels are kept.
        verify: Whether to compare the checksums of cached pixels; one process per node is enough.

    Raises:
        InputError: If an image is corrupt, there is none, or there is no room for the pixels.
    """

    def __init__(self, split: Split, transform: PixelTransform, *, cache_dir: str | Path, verify: bool = True) -> None:
        self.fingerprint = data_fingerprint(split, transform)
        self.rows = split.fingerprint
        num_bytes = None if split.task.streaming else len(split.rows) * 3 * transform.crop_size**2
        self.pixels, labels = open_pixels(  # of several processes one decodes; the others wait at its lock
            Path(cache_dir) / "pixels" / self.fingerprint,
            lambda: _pixels_and_labels(split, transform),
            name=f"{split.name} split of task '{split.task.name}'",
            num_bytes=num_bytes,
            verify=verify,
        )
        self.labels = torch.from_numpy(split.targets(labels))
        self.written = split.written(labels)
        self.choices = split.choices

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": torch.from_numpy(self.pixels[index].copy()), "labels": self.labels[index].tolist()}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(self.pixels[indices]), "labels": self.labels[indices]}


def collate(batch: dict[str, Tensor] | list[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack examples to `pixel_values` (batch, 3, height, width), uint8, and `labels` (batch,), or rows of them."""
    if isinstance(batch, dict):  # CachedImages reads whole batches
        return batch
    pixels = torch.stack([example["pixel_values"] for example in batch])
    return {"pixel_values": pixels, "labels": torch.tensor([example["labels"] for example in batch])}


def decode(split: Split, index: int, epoch: int = 0) -> Image.Image:
    """Return one image of a split, attacked and corrupted where the task says so, for training images as in an epoch.

    Raises:
        InputError: If the image is corrupt; the message names it.
    """
    try:
        row = split.rows[index]
        row[split.task.image_column].load()
    except Exception as error:  # Pillow and datasets raise many types for bytes that are no image
        raise InputError(
            f"Image {index} of the {split.name} split of task '{split.task.name}' cannot be read"
            f"{_stored_name(split, index)}: {one_line(error)}"
        ) from error
    return _changed(split, row, index, epoch)


def stream_rows(split: Split, epoch: int = 0) -> Iterator[dict[str, Any]]:
    """Read the rows of a stream, the images attacked and corrupted where the task says so.

    Raises:
        InputError: If one cannot be read.
    """
    rows = iter(split.rows)
    for position in itertools.count():
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # the network, the decoder and the data set all speak here
            message = one_line(error)
            raise InputError(
                f"Image {position} of the {split.name} stream of task '{split.task.name}' cannot be read: {message}"
            ) from error
        yield row | {split.task.image_column: _changed(split, row, position, epoch)}


def data_fingerprint(split: Split, transform: PixelTransform) -> str:
    """Fingerprint of the images and labels of a split and of how pixels are made from them."""
    columns = [split.task.image_column, split.task.label_columns().get("label_column", "label")]
    class_ids = sorted((str(label), index) for label, index in split.class_ids.items())
    corruption, attack = split.task.corruption, split.task.attack
    corrupted = [corruption.identity] if corruption is not None else []
    drawn = [attack.identity, list(split.class_names), split.name] if attack is not None else []
    return fingerprint_values(split.fingerprint, columns, class_ids, transform.fingerprint, *corrupted, *drawn)


def _changed(split: Split, row: dict[str, Any], index: int, epoch: int) -> Image.Image:
    """Return an image with the word of the attack written on it, and then corrupted."""
    image: Image.Image = row[split.task.image_column]
    if split.task.attack is not None:
        image = split.task.attack(
            image, split.class_of(row), split.class_names, split=split.name, row=index, epoch=epoch
        )
    return split.task.corruption(image) if split.task.corruption is not None else image


def _pixels_and_labels(split: Split, transform: PixelTransform) -> Examples:
    """Decode the images of a split, in order, with a progress bar."""
    rows: Iterable[Any] = stream_rows(split) if split.task.streaming else enumerate(split.labels())

    def read(row: Any) -> tuple[NDArray[np.uint8], int]:
        if split.task.streaming:
            image, label = row[split.task.image_column], split.class_of(row)
        else:
            image, label = decode(split, row[0]), int(row[1])
        return transform.resize_and_crop(image).numpy(), label

    yield from tqdm(
        _in_threads(read, rows),
        f"Decoding {split.task.name} {split.name}",
        total=None if split.task.streaming else len(split.rows),
        unit="image",
        leave=False,
    )


def _in_threads(function: Callable[[Item], Made], items: Iterable[Item]) -> Iterator[Made]:
    """Yield `function(item)` in the order of the items, made ahead by threads; the first error ends it.

    Pillow decodes and resizes without Python's lock. All cores that the process may use are used: of the processes of
    a node only one decodes, while the others wait for it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, MAX_THREADS)
    waiting: deque[Future[Made]] = deque()
    with ThreadPoolExecutor(threads, "decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 8 * threads:  # what is made ahead is bounded, and so is the memory
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _stored_name(split: Split, index: int) -> str:
    """Return the file name that is stored beside an image, where there is one."""
    from datasets import Image as ImageFeature

    stored = split.rows.cast_column(split.task.image_column, ImageFeature(decode=False))[index]
    path = (stored[split.task.image_column] or {}).get("path")
    return f" ('{Path(path).name}')" if path else ""
