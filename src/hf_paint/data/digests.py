"""Digests of the stored images of a split, without decoding them. Each image is read once and its digest is kept."""

import hashlib
import json
from contextlib import suppress
from pathlib import Path

import numpy as np
from datasets import Image
from numpy.typing import NDArray

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import Split
from hf_paint.data.stored_images import StoredValue, is_local, stored_bytes
from hf_paint.documents.arrays import read_array
from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values


BATCH_SIZE = 1000
LENGTH = 16
"""Number of bytes of a digest."""
Digests = NDArray[np.bytes_]


def read_digests(split: Split, cache_dir: Path | None = None) -> Digests:
    """Return a digest of the stored bytes of each image, shape (num_rows,).

    Digests are kept under the fingerprint of the split, which changes with the size or time of any of its files.

    Args:
        split: Split that is not streamed.
        cache_dir: Folder in which the digests are kept; by default, that of heads and pixels.
    """
    folder = (cache_dir or default_cache_dir()) / "digests"
    path = folder / f"{fingerprint_values(split.fingerprint, split.task.image_column)}.npy"
    kept = _load(path)
    if kept is not None and len(kept) == len(split.rows):
        return kept
    digests = _digest_images(split)
    with suppress(OSError):  # a read-only cache
        save_atomically(path, lambda partial: np.save(partial, digests))
    return digests


def _load(path: Path) -> Digests | None:
    """Read digests from the cache; return None if they are missing or damaged."""
    with suppress(OSError, InputError):
        return read_array(path)
    return None


def _digest_images(split: Split) -> Digests:
    column = split.task.image_column
    rows = split.rows.select_columns([column])
    is_encoded = isinstance(rows.features[column], Image)
    if is_encoded:
        rows = rows.cast_column(column, Image(decode=False))
    images = (image for batch in rows.iter(BATCH_SIZE) for image in batch[column])
    stored = (_encoded(image) if is_encoded else _values(image) for image in images)
    return np.array([hashlib.blake2b(data, digest_size=LENGTH).digest() for data in stored], dtype=f"S{LENGTH}")


def _encoded(image: StoredValue | None) -> bytes:
    """Return the bytes of an image, or its path if it is on another machine or cannot be read."""
    value = image or {"bytes": None, "path": None}
    path = str(value["path"])
    if value["bytes"] is None and not is_local(path):
        return path.encode()
    try:
        return stored_bytes(value)
    except (OSError, ValueError):  # `decode` reports files that cannot be read
        return path.encode()


def _values(image: object) -> bytes:
    """Return the values of an image that is stored as an array."""
    return json.dumps(image.tolist() if isinstance(image, np.ndarray) else image).encode()
