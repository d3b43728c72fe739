"""Scan the images of a split once: whether each can be read, its size and mode, and a thumbnail. Scans are kept."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import datasets
import numpy as np
import PIL
from datasets import Dataset
from numpy.typing import NDArray
from PIL import Image
from tqdm.auto import tqdm

from hf_paint.data.pixel_cache import default_cache_dir, locked
from hf_paint.data.stored_images import decode_value, without_decoding
from hf_paint.data.threads import in_threads
from hf_paint.documents.arrays import read_arrays
from hf_paint.errors import InputError, one_line
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values


if TYPE_CHECKING:
    from hf_paint.data.splits import Split

SIDE = 16
"""Width and height of a thumbnail."""
CHUNK = 64
"""Number of images that a thread decodes at a time."""
Problems: TypeAlias = dict[int, str]
"""Row -> why its image cannot be read."""
_problems: dict[Path, Problems] = {}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scan:
    """What the images of a split are like.

    Attributes:
        sizes: Width and height of each image, shape (num_rows, 2); 0 for an image that cannot be read.
        modes: Pillow's mode of each image as it is stored, shape (num_rows,); empty for one that cannot be read.
        thumbnails: Grey thumbnails, uint8, shape (num_rows, SIDE, SIDE).
        problems: Row -> why its image cannot be read.
    """

    sizes: NDArray[np.int64]
    modes: NDArray[np.str_]
    thumbnails: NDArray[np.uint8]
    problems: Mapping[int, str]


class _Image(NamedTuple):
    """An image that was decoded, or why it cannot be."""

    size: tuple[int, int]
    mode: str
    thumbnail: bytes
    problem: str


def scan_images(split: "Split", cache_dir: Path | None = None) -> Scan:
    """Decode each image of a split as training does, and return what the images are like.

    A scan is kept under the fingerprint of the split, which changes with the size or time of any of its files. Images
    that could not be read are tried again. If several processes scan a split, one of them does and the others wait.

    Args:
        split: Split that is not streamed.
        cache_dir: Folder in which scans are kept; by default, that of heads and pixels.
    """
    path = _path(split, cache_dir)
    with locked(path):
        scan = _load(path)
        if scan is None or _is_outdated(split, scan.problems):
            scan = _scan(split)
            with suppress(OSError):  # a read-only cache
                save_atomically(path, lambda partial: _save(partial, scan))
    return scan


def find_problems(split: "Split") -> Problems:
    """Return row -> why its image cannot be read, the same throughout this process even if files change."""
    path = _path(split, None)
    if path not in _problems:
        _problems[path] = dict(scan_images(split).problems)
    return _problems[path]


def _path(split: "Split", cache_dir: Path | None) -> Path:
    key = fingerprint_values(split.fingerprint, split.task.image_column, SIDE, PIL.__version__, datasets.__version__)
    return (cache_dir or default_cache_dir()) / "scans" / f"{key}.npz"


def _save(path: Path, scan: Scan) -> None:
    rows = np.array(list(scan.problems), dtype=np.int64)
    reasons = np.array(list(scan.problems.values()), dtype=np.str_)
    np.savez(path, sizes=scan.sizes, modes=scan.modes, thumbnails=scan.thumbnails, rows=rows, reasons=reasons)


def _load(path: Path) -> Scan | None:
    """Read a scan from the cache; return None if it is missing or damaged."""
    try:
        kept = read_arrays(path)
        problems = dict(zip(kept.pop("rows").tolist(), kept.pop("reasons").tolist(), strict=True))
        return Scan(**kept, problems=problems)
    except (OSError, InputError, KeyError, TypeError, ValueError):
        return None


def _is_outdated(split: "Split", problems: Mapping[int, str]) -> bool:
    """Return whether an image that could not be read now can, for instance because a disk is back."""
    column = split.task.image_column
    values = without_decoding(split.rows, column)
    return any(not _look(values[row][column], split.rows, column).problem for row in problems)


def _scan(split: "Split") -> Scan:
    rows, column = split.rows, split.task.image_column
    chunks = without_decoding(rows.select_columns([column]), column).iter(CHUNK)
    sizes: list[tuple[int, int]] = []
    modes: list[str] = []
    pixels = bytearray()
    problems: Problems = {}
    with tqdm(total=len(rows), desc=f"Reading {split.task.name} {split.name}", unit="image", leave=False) as bar:
        for images in in_threads(lambda chunk: [_look(value, rows, column) for value in chunk[column]], chunks):
            problems |= {len(sizes) + row: image.problem for row, image in enumerate(images) if image.problem}
            sizes += [image.size for image in images]
            modes += [image.mode for image in images]
            pixels += b"".join(image.thumbnail for image in images)
            bar.update(len(images))
    return Scan(
        sizes=np.array(sizes, dtype=np.int64).reshape(-1, 2),
        modes=np.array(modes, dtype=np.str_),
        thumbnails=np.frombuffer(pixels, dtype=np.uint8).reshape(-1, SIDE, SIDE),
        problems=problems,
    )


def _look(value: object, rows: Dataset, column: str) -> _Image:
    try:
        image, mode = decode_value(value, rows, column)
    except Exception as error:  # Pillow and datasets raise many types of errors for corrupt images
        return _Image((0, 0), "", bytes(SIDE * SIDE), one_line(error) or type(error).__name__)
    return _Image(image.size, mode, make_thumbnail(image).tobytes(), "")


def make_thumbnail(image: Image.Image) -> Image.Image:
    """Return a small grey copy of an image, with which it is compared with others."""
    return image.convert("L").resize((SIDE, SIDE), Image.Resampling.BILINEAR, reducing_gap=2.0)
