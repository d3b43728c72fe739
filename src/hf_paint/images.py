"""From stored images to pixels: the processor's resize and crop, PAINT's augmentation, and a cache of pixels."""

import itertools
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import PIL
import torch
from accelerate import PartialState
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, IterableDataset
from tqdm.auto import tqdm
from transformers import CLIPProcessor

from hf_paint.data import Split
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values


Augmentation = Literal["paint", "none"]
CROP_SCALE = (0.9, 1.0)
"""Share of the image area that the random crop keeps (the released code of PAINT)."""
CROP_RATIO = (3 / 4, 4 / 3)
"""Aspect ratio of the random crop, as torchvision's RandomResizedCrop draws it."""


class PixelTransform:
    """What a CLIP processor does to an image up to the uint8 pixels, and the rest on batches.

    `resize_and_crop` equals `CLIPImageProcessorPil` with `do_rescale=False, do_normalize=False` bit for bit.

    Args:
        processor: The processor of the model: square crop, bicubic resize of the shorter side.

    Raises:
        InputError: If the processor does something else.
    """

    def __init__(self, processor: CLIPProcessor) -> None:
        settings = processor.image_processor.to_dict()
        self.shortest_edge = int(settings["size"].get("shortest_edge") or settings["size"].get("height") or 0)
        self.crop_size = int(settings["crop_size"]["height"])
        self.resample = Image.Resampling(settings["resample"])
        self.scale = float(settings["rescale_factor"])
        self.mean = torch.tensor(settings["image_mean"]).view(-1, 1, 1)
        self.std = torch.tensor(settings["image_std"]).view(-1, 1, 1)
        steps = ("do_resize", "do_center_crop", "do_rescale", "do_normalize", "do_convert_rgb")
        if not all(settings[step] for step in steps) or self.shortest_edge < self.crop_size:
            raise InputError(
                "The image processor must resize the shorter side, crop the centre, rescale, normalise and convert to "
                f"RGB, as CLIP's does; its settings are {settings}."
            )

    @property
    def fingerprint(self) -> str:
        """Fingerprint of everything that decides the uint8 pixels."""
        return fingerprint_values(self.shortest_edge, self.crop_size, int(self.resample), PIL.__version__)

    def resize_and_crop(self, image: Image.Image) -> Tensor:
        """Return pixels (3, crop_size, crop_size), uint8: shorter side resized, centre cropped."""
        image = image.convert("RGB")
        width, height = image.size
        size = (self.shortest_edge, int(self.shortest_edge * height / width))
        if width > height:
            size = (int(self.shortest_edge * width / height), self.shortest_edge)
        resized = image.resize(size, self.resample)
        left, top = (size[0] - self.crop_size) // 2, (size[1] - self.crop_size) // 2
        return _to_tensor(resized.crop((left, top, left + self.crop_size, top + self.crop_size)))

    def random_resized_crop(self, image: Image.Image, generator: np.random.Generator) -> Tensor:
        """Return pixels (3, crop_size, crop_size), uint8: a random crop of most of the image, resized."""
        image = image.convert("RGB")
        box = _random_box(*image.size, generator)
        return _to_tensor(image.crop(box).resize((self.crop_size, self.crop_size), self.resample))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return float32 model inputs of uint8 pixels (batch, 3, height, width), on the device of the pixels."""
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        return (pixels.float() * self.scale - mean) / std


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


def augment(
    image: Image.Image, transform: PixelTransform, augmentation: Augmentation, key: tuple[int, int, int]
) -> Tensor:
    """Return the uint8 pixels of an image; `key` is (seed, epoch, index) and decides every random number."""
    if augmentation == "none":
        return transform.resize_and_crop(image)
    return transform.random_resized_crop(image, np.random.default_rng(key))


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


def _random_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the box of torchvision's RandomResizedCrop: ten tries, then the whole image."""
    for _ in range(10):
        area = width * height * generator.uniform(*CROP_SCALE)
        ratio = math.exp(generator.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(generator.integers(width - crop_width + 1))
            top = int(generator.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def _to_tensor(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).contiguous()


def _stored_name(split: Split, index: int) -> str:
    """Return the file name that is stored beside an image, where there is one."""
    from datasets import Image as ImageFeature

    stored = split.rows.cast_column(split.task.image_column, ImageFeature(decode=False))[index]
    path = (stored[split.task.image_column] or {}).get("path")
    return f" ('{Path(path).name}')" if path else ""
