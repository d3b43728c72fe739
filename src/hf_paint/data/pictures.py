"""The pictures of a split before augmentation: decoded once into the pixel cache, or on every read."""

import os
import shutil
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from hf_paint.data.images import data_fingerprint, decode
from hf_paint.data.pixel_cache import Examples, Label, cache_limit, open_pixels
from hf_paint.data.scans import scan_images
from hf_paint.data.splits import Split
from hf_paint.data.threads import in_threads
from hf_paint.data.transforms import Box
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.probes import fingerprint_code
from hf_paint.tasks.rgb import to_rgb


Pixels: TypeAlias = NDArray[np.uint8]
"""shape (height, width, 3)"""


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """An RGB picture, either an image or pixels that are mapped into memory, of which only the crop is read."""

    content: Image.Image | Pixels

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        if isinstance(self.content, Image.Image):
            return self.content.size
        height, width = self.content.shape[:2]
        return width, height

    def to_image(self) -> Image.Image:
        """Return the whole picture."""
        return self.content if isinstance(self.content, Image.Image) else Image.fromarray(self.content)

    def crop(self, box: Box) -> Image.Image:
        """Return a part of the picture as an image."""
        if isinstance(self.content, Image.Image):
            return self.content.crop(box)
        return Image.fromarray(self.crop_pixels(box))

    def crop_pixels(self, box: Box) -> Pixels:
        """Return a part of the picture, shape (bottom - top, right - left, 3)."""
        left, top, right, bottom = box
        if isinstance(self.content, Image.Image):
            return np.asarray(self.content.crop(box))
        return self.content[top:bottom, left:right]


@dataclass(frozen=True, eq=False)
class Pictures:
    """RGB pictures of a split, at full size or with their shorter side reduced to `max_side`.

    Attributes:
        split: Split to read, which is not streamed.
        max_side: Larger pictures are resized so that their shorter side has this length; None keeps their size.
        resample: Filter to resize them with.
        cache_dir: Folder of the cache to decode the pictures into; None decodes them each time they are read.
    """

    split: Split
    max_side: int | None = None
    resample: Image.Resampling = Image.Resampling.BICUBIC
    cache_dir: Path | None = None

    def __getstate__(self) -> dict[str, object]:
        """Leave out the memory map: a worker process that is not forked opens its own instead of getting a copy."""
        return {name: value for name, value in self.__dict__.items() if name != "_cached"}

    def read(self, index: int, epoch: int = 0) -> Picture:
        """Return a picture; `epoch` varies attacks in training, which are never cached."""
        if self.cache_dir is None:
            return Picture(self._decode(index, epoch))
        pixels, starts, sizes = self._cached
        height, width = sizes[index]
        return Picture(pixels[starts[index] : starts[index + 1]].reshape(height, width, 3))

    def load(self) -> None:
        """Decode the pictures into the cache, unless they are already there."""
        if self.cache_dir is not None:
            len(self._cached)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of everything that turns an image into a picture, including the code."""
        code = fingerprint_code(lambda image: self._reduce(to_rgb(image)))
        filter_name = None if self.max_side is None else self.resample.name
        return fingerprint_values("pictures", self.max_side, filter_name, PIL.__version__, code)

    @cached_property
    def num_bytes(self) -> int:
        """Size of all pictures in bytes, known from the scan of the split without decoding them again."""
        width, height = reduced_size(scan_images(self.split).sizes.T, self.max_side)
        return int(3 * (width * height).sum())

    def fits_on_disk(self, cache_dir: Path) -> bool:
        """Return whether the pictures are in the cache, or it can be written and they fit into it and on its disk."""
        if self._folder(cache_dir).exists():
            return True
        existing = next(path for path in (cache_dir, *cache_dir.absolute().parents) if path.exists())
        room = min(cache_limit(), shutil.disk_usage(existing).free)
        return os.access(existing, os.W_OK) and self.num_bytes <= room

    def fits_in_memory(self) -> bool:
        """Return whether the pictures fit into half of the memory, so that they need not be read from a disk again."""
        if not hasattr(os, "sysconf"):  # Windows
            return False
        return 2 * self.num_bytes <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def _folder(self, cache_dir: Path) -> Path:
        return cache_dir / "pixels" / data_fingerprint(self.split, self)

    @cached_property
    def _cached(self) -> tuple[NDArray[np.uint8], list[int], list[list[int]]]:
        """The concatenated pixels of all pictures, where each picture starts, and its height and width."""
        folder = self._folder(self.cache_dir or Path())
        name = f"{self.split.name} pictures of task '{self.split.task.name}'"
        pixels, sizes = open_pixels(folder, self._decode_all, name=name, num_bytes=self.num_bytes)
        starts = [0, *np.cumsum(3 * sizes.prod(axis=1)).tolist()]
        return np.asarray(pixels).reshape(-1), starts, sizes.tolist()

    def _decode(self, index: int, epoch: int) -> Image.Image:
        return self._reduce(decode(self.split, index, epoch))

    def _reduce(self, image: Image.Image) -> Image.Image:
        width, height = reduced_size(np.array(image.size), self.max_side).tolist()
        return image if (width, height) == image.size else image.resize((width, height), self.resample)

    def _decode_all(self) -> Examples:
        def pixels_and_size(index: int) -> tuple[NDArray[np.uint8], Label]:
            pixels = np.asarray(self._decode(index, 0))
            return pixels, list(pixels.shape[:2])

        task, total = self.split.task, len(self.split.rows)
        decoded = in_threads(pixels_and_size, range(total))
        yield from tqdm(decoded, f"Decoding {task.name} {self.split.name}", total=total, unit="image", leave=False)


def reduced_size(size: NDArray[np.int64], max_side: int | None) -> NDArray[np.int64]:
    """Return the width and height of pictures whose shorter side is at most `max_side`, shape (2,) or (2, n).

    Example:
        >>> reduced_size(np.array([500, 375]), 256), reduced_size(np.array([30, 400]), 256)
        (array([341, 256]), array([ 30, 400]))
    """
    shorter = size.min(axis=0)
    if max_side is None:
        return size
    reduced: NDArray[np.int64] = np.rint(size * np.minimum(1, max_side / np.maximum(shorter, 1))).astype(np.int64)
    return reduced
