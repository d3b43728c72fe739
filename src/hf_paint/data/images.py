"""Read the images of a split, decode them into the pixel cache, and report corrupt images by name."""

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NotRequired, Protocol, TypedDict

import datasets
import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from hf_paint.data.choices import Choices
from hf_paint.data.label_lists import NO_CLASS, labelled
from hf_paint.data.pixel_cache import Examples, Label, find_pixels, open_pixels
from hf_paint.data.resampling import pad
from hf_paint.data.splits import Indices, Split
from hf_paint.data.stored_images import Row, decode_value, read_image, without_decoding
from hf_paint.data.threads import in_threads
from hf_paint.data.transforms import PixelTransform
from hf_paint.data.unreadable import Unreadable, describe, refuse_unreadable, report_skipped
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.multi_label import MultiLabelTask


class Example(TypedDict):
    """A dataloader example: an image and its label."""

    pixel_values: NotRequired[Tensor]
    """shape (3, height, width), uint8."""
    crop: NotRequired[NDArray[np.uint8]]
    """Instead of `pixel_values`: a part of a picture that is still to be resized, shape (height, width, 3)."""
    labels: Label
    """Class index; of a multi-label task, the classes; for multiple choice, the label followed by the candidates."""


class CachedImages(Dataset[Example]):
    """A data set of images that are decoded once and then read from a memory-mapped file, without augmentation.

    Args:
        split: Split to read.
        transform: Transform from images to pixels.
        cache_dir: Cache folder.

    Raises:
        InputError: If an image is corrupt, the split is empty, or the pixels do not fit into the cache.
    """

    def __init__(self, split: Split, transform: PixelTransform, *, cache_dir: str | Path) -> None:
        self.fingerprint: str = data_fingerprint(split, transform)
        self.rows: str = split.fingerprint
        num_bytes = None if split.task.streaming else len(split.rows) * 3 * transform.crop_size**2
        folder = Path(cache_dir) / "pixels"
        try:
            pixels, labels = open_pixels(  # one process decodes; the others wait for its lock
                folder / self.fingerprint,
                lambda: _cached(split, transform, folder) or _pixels_and_labels(split, transform),
                name=f"{split.name} split of task '{split.task.name}'",
                num_bytes=num_bytes,
            )
        except InputError:  # of the first image that cannot be read; there may be others
            refuse_unreadable(split)
            raise
        self.pixels: NDArray[np.uint8] = pixels
        self.labels: Tensor = torch.from_numpy(split.targets(labels))
        self.written: Indices | None = split.written(labels)
        self.choices: Choices | None = split.choices
        self.drawn_from: int | None = None if split.sample is None else split.sample.drawn_from

    @property
    def counted(self) -> NDArray[np.int64]:
        """Indices of the images that accuracy counts: all but those without a class in a multi-label task."""
        return np.flatnonzero(labelled(self.labels.numpy()))

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return {"pixel_values": torch.from_numpy(self.pixels[index].copy()), "labels": self.labels[index].tolist()}

    def __getitems__(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """Return a batch, read at once. Consecutive images are a view of the memory-mapped file, not a copy."""
        pixels = torch.from_numpy(self.pixels)
        start, stop = indices[0], indices[-1] + 1
        if stop - start == len(indices) and list(indices) == list(range(start, stop)):
            return {"pixel_values": pixels[start:stop], "labels": self.labels[start:stop]}
        rows = torch.as_tensor(indices)
        return {"pixel_values": pixels.index_select(0, rows), "labels": self.labels[rows]}

    def batches(self, batch_size: int, indices: Sequence[int] | None = None) -> Iterator[dict[str, Tensor]]:
        """Yield batches in order, without a dataloader; the last one may be smaller.

        Args:
            batch_size: Number of images in a batch.
            indices: Images to read; by default, all.
        """
        rows = range(len(self)) if indices is None else indices
        for start in range(0, len(rows), batch_size):
            yield self.__getitems__(rows[start : start + batch_size])


def collate(batch: dict[str, Tensor] | list[Example]) -> dict[str, Tensor]:
    """Collate `pixel_values` (batch, 3, height, width), uint8, and `labels` (batch,) or (batch, columns).

    Instead of `pixel_values`, a batch of crops has `crops` (batch, max_height, max_width, 3) and their `sizes`. Lists
    of classes may differ in length, as those of different tasks do; they are padded with -1.
    """
    if isinstance(batch, dict):  # CachedImages reads whole batches
        return batch
    labels = [example["labels"] for example in batch]
    if any(isinstance(label, list) for label in labels):
        rows = [torch.tensor(label).reshape(-1) for label in labels]
        targets = pad_sequence(rows, batch_first=True, padding_value=NO_CLASS)
    else:
        targets = torch.tensor(labels)
    if "crop" in batch[0]:
        crops, sizes = pad([example["crop"] for example in batch])
        return {"crops": crops, "sizes": sizes, "labels": targets}
    return {"pixel_values": torch.stack([example["pixel_values"] for example in batch]), "labels": targets}


def decode(split: Split, index: int, epoch: int = 0) -> Image.Image:
    """Decode one image of a split to RGB, with the task's attack and corruption; `epoch` varies attacks in training.

    Raises:
        InputError: If the image is corrupt or has no clear RGB; the message contains its index and file name.
    """
    if split.sample is not None:
        return decode(split.sample.whole, int(split.sample.indices[index]), epoch)
    try:
        row = split.rows[index]
        image = read_image(row, split.rows, split.task.image_column)
    except Exception as error:  # Pillow and datasets raise many types of errors for corrupt images
        value = without_decoding(split.rows, split.task.image_column)[index][split.task.image_column]
        raise InputError(str(describe(split, index, value, error))) from error
    return _change(split, image, row, index, epoch)


def stream_rows(split: Split, epoch: int = 0) -> Iterator[Row]:
    """Yield the rows of a stream with RGB images, after applying the task's attack and corruption to them.

    With `bad_rows: skip`, rows whose image cannot be read are left out, and reported once the stream ends.

    Raises:
        InputError: If a row cannot be read.
    """
    column = split.task.image_column
    skipped: list[Unreadable] = []
    position = -1
    try:
        for position, row in enumerate(_stored_rows(split)):
            try:
                image, _ = decode_value(row[column], split.rows, column)
            except Exception as error:  # Pillow and datasets raise many types of errors for corrupt images
                skipped.append(describe(split, position, row[column], error))
                if split.task.bad_rows == "refuse":
                    raise InputError(str(skipped.pop())) from error
            else:
                yield row | {column: _change(split, image, row, position, epoch)}
    finally:  # also if not all rows are asked for
        report_skipped(skipped, position + 1)


def _stored_rows(split: Split) -> Iterator[Row]:
    """Yield the rows of a stream without decoding their images."""
    rows = iter(without_decoding(split.rows, split.task.image_column))
    for position in itertools.count():
        try:
            row = next(rows)
        except StopIteration:
            return
        except Exception as error:  # from the network or the data set
            raise InputError(str(describe(split, position, None, error))) from error
        yield row


class Decoded(Protocol):
    """What turns decoded images into the pixels of a cache entry."""

    @property
    def fingerprint(self) -> str:
        """Fingerprint of everything that affects the pixels."""


def data_fingerprint(split: Split, transform: Decoded) -> str:
    """Return a fingerprint of a split's images and labels, and of what turns them into pixels, including the code."""
    if split.sample is not None:
        return fingerprint_values(data_fingerprint(split.sample.whole, transform), split.sample.indices.tolist())
    # multiple-choice tasks have no label column, but fingerprints in existing caches include its default name
    columns = [split.task.image_column, split.task.label_columns().get("label_column", "label")]
    class_ids = sorted((str(label), index) for label, index in split.class_ids.items())
    corruption, attack = split.task.corruption, split.task.attack
    changes: list[object] = [corruption.identity] if corruption is not None else []
    changes += ["multi-label", split.task.label_separator] if isinstance(split.task, MultiLabelTask) else []
    changes += [attack.identity, list(split.class_names), split.name] if attack is not None else []
    changes += ["skip"] if split.task.streaming and split.task.bad_rows == "skip" else []
    decoder = datasets.__version__
    return fingerprint_values(split.fingerprint, columns, class_ids, transform.fingerprint, decoder, *changes)


def _change(split: Split, image: Image.Image, row: Row, index: int, epoch: int) -> Image.Image:
    """Return the image of a row, after the task's attack and then its corruption."""
    if split.task.attack is not None:
        image = split.task.attack(
            image, split.class_of(row), split.class_names, split=split.name, row=index, epoch=epoch
        )
    return split.task.corruption(image) if split.task.corruption is not None else image


def _cached(split: Split, transform: PixelTransform, folder: Path) -> Examples | None:
    """Return the images of a sample if the whole split has been decoded before, or None."""
    if split.sample is None:
        return None
    pixels = find_pixels(folder / data_fingerprint(split.sample.whole, transform))
    if pixels is None:
        return None
    return ((pixels[index], label) for index, label in zip(split.sample.indices, split.labels().tolist(), strict=True))


def _pixels_and_labels(split: Split, transform: PixelTransform) -> Examples:
    """Yield the decoded images and labels of a split, in order, with a progress bar."""

    def from_row(row: Row) -> tuple[NDArray[np.uint8], Label]:
        return transform.resize_and_crop(row[split.task.image_column]).numpy(), split.class_of(row)

    def from_label(item: tuple[int, Label]) -> tuple[NDArray[np.uint8], Label]:
        index, label = item
        return transform.resize_and_crop(decode(split, index)).numpy(), label

    if split.task.streaming:
        examples, total = in_threads(from_row, stream_rows(split)), None
    else:
        examples, total = in_threads(from_label, enumerate(split.labels().tolist())), len(split.rows)
    name = f"Decoding {split.task.name} {split.name}"
    yield from tqdm(examples, name, total=total, unit="image", leave=False)
