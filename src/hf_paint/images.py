"""The images of a split: read, named when they are corrupt, and decoded once into a cache of pixels."""

import contextlib
import itertools
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_paint.data import Split
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.pixels import PixelTransform


class CachedImages(Dataset[dict[str, Any]]):
    """Images that are decoded once and then read from a memory-mapped file, without augmentation.

    Args:
        split: The rows.
        transform: Makes the pixels.
        cache_dir: Where the pixels are kept.
    """

    def __init__(self, split: Split, transform: PixelTransform, *, cache_dir: str | Path) -> None:
        self.fingerprint = data_fingerprint(split, transform)
        folder = Path(cache_dir) / "pixels" / self.fingerprint
        with PartialState().local_main_process_first():
            if not folder.exists():
                _decode_all(split, transform, folder)
        self.labels = torch.from_numpy(np.load(folder / "labels.npy"))
        shape = (len(self.labels), 3, transform.crop_size, transform.crop_size)
        self.pixels = np.memmap(folder / "pixels.bin", dtype=np.uint8, mode="r", shape=shape)

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


def stream_rows(split: Split) -> Iterator[dict[str, Any]]:
    """Read the rows of a stream.

    Raises:
        InputError: If one cannot be read.
    """
    rows = iter(split.rows)
    for position in itertools.count():
        try:
            yield next(rows)
        except StopIteration:
            return
        except Exception as error:  # the network, the decoder and the data set all speak here
            message = " ".join(str(error).split())
            raise InputError(
                f"Image {position} of the {split.name} stream of task '{split.task.name}' cannot be read: {message}"
            ) from error


def data_fingerprint(split: Split, transform: PixelTransform) -> str:
    """Fingerprint of the images and labels of a split and of how pixels are made from them."""
    columns = [split.task.image_column, split.task.label_column]
    class_ids = sorted((str(label), index) for label, index in split.class_ids.items())
    return fingerprint_values(split.fingerprint, columns, class_ids, transform.fingerprint)


def _decode_all(split: Split, transform: PixelTransform, folder: Path) -> None:
    """Write pixels.bin and labels.npy; the folder gets its name when both are complete."""
    partial = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}.partial")
    partial.mkdir(parents=True)
    labels = []
    try:
        with (partial / "pixels.bin").open("wb") as file:
            for image, label in tqdm(
                _images_and_labels(split),
                f"Decoding {split.task.name} {split.name}",
                total=None if split.task.streaming else len(split.rows),
                unit="image",
                leave=False,
            ):
                file.write(transform.resize_and_crop(image).numpy().tobytes())
                labels.append(label)
        if not labels:
            raise InputError(f"The {split.name} split of task '{split.task.name}' is empty.")
        np.save(partial / "labels.npy", np.array(labels, dtype=np.int64))
        with contextlib.suppress(OSError):  # another run was faster; its pixels are the same
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _images_and_labels(split: Split) -> Iterator[tuple[Image.Image, int]]:
    if split.task.streaming:
        for row in stream_rows(split):
            yield row[split.task.image_column], split.class_id(row[split.task.label_column])
    else:
        for index, label in enumerate(split.labels()):
            yield decode(split, index), int(label)


def _stored_name(split: Split, index: int) -> str:
    """Return the file name that is stored beside an image, where there is one."""
    from datasets import Image as ImageFeature

    stored = split.rows.cast_column(split.task.image_column, ImageFeature(decode=False))[index]
    path = (stored[split.task.image_column] or {}).get("path")
    return f" ('{Path(path).name}')" if path else ""
