"""The images of a split as torch data sets: augmented for training, decoded once for evaluation, or streamed."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from tqdm.auto import tqdm

from hf_paint.data import Split
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.pixels import Augmentation, PixelTransform, augment


class TrainImages(Dataset[dict[str, Any]]):
    """The training images of a task, augmented the same way whenever (seed, epoch, index) are the same.

    That the random numbers of an image depend on nothing else makes a run that was interrupted in the middle of an
    epoch and resumed equal to one that was not. The epoch lives in shared memory, so that workers which outlive an
    epoch see it change.

    Args:
        split: The rows.
        transform: Makes the pixels.
        augmentation: `paint` or `none`.
        seed: The seed of the augmentation.
    """

    def __init__(self, split: Split, transform: PixelTransform, augmentation: Augmentation, *, seed: int) -> None:
        self.split = split
        self.transform = transform
        self.augmentation = augmentation
        self.seed = seed
        self.labels = split.labels()
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next images are for."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image = decode(self.split, index)
        pixels = augment(image, self.transform, self.augmentation, (self.seed, int(self.epoch), index))
        return {"pixel_values": pixels, "labels": int(self.labels[index])}


class StreamedImages(IterableDataset[dict[str, Any]]):
    """The images of a stream, in the order of the stream; an epoch shuffles it anew where the stream is shuffled.

    Args:
        split: The rows.
        transform: Makes the pixels.
        augmentation: `paint` or `none`.
        seed: The seed of the augmentation, which depends on (seed, epoch, position in the stream).
    """

    def __init__(
        self, split: Split, transform: PixelTransform, augmentation: Augmentation = "none", *, seed: int = 0
    ) -> None:
        self.split = split
        self.transform = transform
        self.augmentation = augmentation
        self.seed = seed
        self.epoch = 0
        self.fingerprint = data_fingerprint(split, transform)

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch the next images are for."""
        self.epoch = epoch
        self.split.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        task = self.split.task
        rows = iter(self.split.rows)
        for position in itertools.count():
            try:
                row = next(rows)
            except StopIteration:
                return
            except Exception as error:  # the network, the decoder and the data set all speak here
                message = " ".join(str(error).split())
                raise InputError(
                    f"Image {position} of the {self.split.name} stream of task '{task.name}' cannot be read: {message}"
                ) from error
            pixels = augment(
                row[task.image_column], self.transform, self.augmentation, (self.seed, self.epoch, position)
            )
            yield {"pixel_values": pixels, "labels": self.split.class_id(row[task.label_column])}


class CachedImages(Dataset[dict[str, Any]]):
    """Images that are decoded once and then read from a memory-mapped file, without augmentation.

    Args:
        split: The rows.
        transform: Makes the pixels.
        cache_dir: Where the pixels are kept.
    """

    def __init__(self, split: Split, transform: PixelTransform, *, cache_dir: str | Path) -> None:
        self.labels = torch.from_numpy(split.labels())
        self.fingerprint = data_fingerprint(split, transform)
        self.pixels = _load_or_decode(split, transform, Path(cache_dir) / "pixels" / f"{self.fingerprint}.npy")

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"pixel_values": torch.from_numpy(self.pixels[index].copy()), "labels": int(self.labels[index])}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {"pixel_values": torch.from_numpy(self.pixels[indices]), "labels": self.labels[indices]}


def collate(batch: dict[str, Tensor] | list[dict[str, Any]]) -> dict[str, Tensor]:
    """Stack examples to `pixel_values` (batch, 3, height, width), uint8, and `labels` (batch,)."""
    if isinstance(batch, dict):  # CachedImages reads whole batches
        return batch
    pixels = torch.stack([example["pixel_values"] for example in batch])
    return {"pixel_values": pixels, "labels": torch.tensor([example["labels"] for example in batch])}


def decode(split: Split, index: int) -> Image.Image:
    """Return one image of a split.

    Raises:
        InputError: If the image is corrupt; the message names it.
    """
    try:
        image: Image.Image = split.rows[index][split.task.image_column]
        image.load()
    except Exception as error:  # Pillow and datasets raise many types for bytes that are no image
        raise InputError(
            f"Image {index} of the {split.name} split of task '{split.task.name}' cannot be read"
            f"{_stored_name(split, index)}: {' '.join(str(error).split())}"
        ) from error
    return image


def data_fingerprint(split: Split, transform: PixelTransform) -> str:
    """Fingerprint of the images and labels of a split and of how pixels are made from them."""
    task = split.task
    columns = [task.image_column, task.label_column, split.name]
    rows = getattr(split.rows, "_fingerprint", None) or [task.dataset, task.config, task.revision, str(task.splits)]
    return fingerprint_values(rows, columns, split.class_names, transform.fingerprint)


def _load_or_decode(split: Split, transform: PixelTransform, path: Path) -> NDArray[np.uint8]:
    with PartialState().local_main_process_first():
        if not path.exists():
            _decode_all(split, transform, path)
    pixels: NDArray[np.uint8] = np.load(path, mmap_mode="r")
    return pixels


def _decode_all(split: Split, transform: PixelTransform, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.stem}.{os.getpid()}.partial")
    shape = (len(split.rows), 3, transform.crop_size, transform.crop_size)
    pixels = np.lib.format.open_memmap(partial, mode="w+", dtype=np.uint8, shape=shape)
    try:
        for index in tqdm(range(len(pixels)), f"Decoding {split.task.name} {split.name}", unit="image", leave=False):
            pixels[index] = transform.resize_and_crop(decode(split, index)).numpy()
        pixels.flush()
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _stored_name(split: Split, index: int) -> str:
    """Return the file name that is stored beside an image, where there is one."""
    from datasets import Image as ImageFeature

    stored = split.rows.cast_column(split.task.image_column, ImageFeature(decode=False))[index]
    path = (stored[split.task.image_column] or {}).get("path")
    return f" ('{Path(path).name}')" if path else ""
