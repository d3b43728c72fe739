"""Find rows and images that two splits of a task have in common, so that no model is tested on what it has seen."""

import hashlib
import logging
from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np
from datasets import Image
from numpy.typing import NDArray

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.splits import Split
from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values


NUM_SHOWN = 3
"""Maximum number of pairs of rows named in a message."""
BATCH_SIZE = 1000
UNKNOWN = 0
"""Digest of an image whose bytes cannot be read here."""
logger = logging.getLogger(__name__)


def refuse_shared_rows(splits: Mapping[str, Split]) -> None:
    """Check that no row is in two splits of a task. Streams are not checked.

    Args:
        splits: Name -> split, all of the same task; an earlier split is named as the one to keep.

    Raises:
        InputError: If two splits contain the same row of the same file.
    """
    for first, second in combinations(splits.values(), 2):
        if first.row_ids is None or second.row_ids is None:
            continue
        number = int(np.isin(second.row_ids, first.row_ids).sum())
        if number:
            raise InputError(
                f"{number} of the {len(second.row_ids)} {second.name} rows of task '{first.task.name}' are also among "
                f"its {len(first.row_ids)} {first.name} rows, so accuracy would be measured on images that were used "
                f"before. Set `{first.name}` or `{second.name}` in `splits` to rows that the other does not contain."
            )


def warn_of_equal_images(splits: Mapping[str, Split], cache_dir: Path | None = None) -> None:
    """Warn if two splits of a task contain images whose stored bytes are equal. Streams are not checked.

    Args:
        splits: Name -> split, all of the same task.
        cache_dir: Folder in which the digests of the images are kept.
    """
    stored = {name: split for name, split in splits.items() if split.row_ids is not None}
    if len(stored) < 2:
        return
    digests = {name: _read_digests(split, cache_dir or default_cache_dir()) for name, split in stored.items()}
    for first, second in combinations(stored.values(), 2):
        known, own = digests[first.name], digests[second.name]
        rows = np.flatnonzero(np.isin(own, known) & (own != UNKNOWN))
        if len(rows):
            pairs = [f"{row} and {np.flatnonzero(known == own[row])[0]}" for row in rows[:NUM_SHOWN].tolist()]
            logger.warning(
                f"{len(rows)} of the {len(own)} {second.name} images of task '{first.task.name}' are equal to "
                f"{first.name} images, byte for byte: rows {', '.join(pairs)}{', ...' * (len(rows) > NUM_SHOWN)}. "
                f"The {second.name} accuracy counts them."
            )


def _read_digests(split: Split, cache_dir: Path) -> NDArray[np.uint64]:
    """Return a digest of the stored bytes of each image, shape (num_rows,), computed once for the same rows."""
    path = cache_dir / "digests" / f"{fingerprint_values(split.fingerprint, split.task.image_column)}.npy"
    if not path.exists():
        new = _digest_images(split)
        save_atomically(path, lambda partial: np.save(partial, new))
    digests: NDArray[np.uint64] = np.load(path)
    return digests


def _digest_images(split: Split) -> NDArray[np.uint64]:
    column = split.task.image_column
    rows = split.rows.select_columns([column]).cast_column(column, Image(decode=False))
    images = (image for batch in rows.iter(BATCH_SIZE) for image in batch[column])
    return np.fromiter((_digest(image) for image in images), dtype=np.uint64, count=len(rows))


def _digest(image: Mapping[str, bytes | str | None] | None) -> int:
    """Return a digest of the bytes of an image, which are stored in the data set or in a file."""
    data, path = (image or {}).get("bytes"), (image or {}).get("path")
    try:
        stored = data if isinstance(data, bytes) else Path(str(path)).read_bytes()
    except OSError:  # `decode` reports files that cannot be read
        return UNKNOWN
    return int.from_bytes(hashlib.blake2b(stored, digest_size=8).digest())
