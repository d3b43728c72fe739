"""Find rows and images that two splits of a task have in common, so that no model is tested on what it has seen."""

from collections.abc import Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

from hf_paint.data.digests import read_digests
from hf_paint.data.notices import warn_once
from hf_paint.data.splits import Split
from hf_paint.errors import InputError


NUM_SHOWN = 3
"""Maximum number of pairs of rows named in a message."""


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
    digests = {name: read_digests(split, cache_dir) for name, split in stored.items()}
    for first, second in combinations(stored.values(), 2):
        known, own = digests[first.name], digests[second.name]
        rows = np.flatnonzero(np.isin(own, known))
        if len(rows):
            pairs = [f"{row} and {np.flatnonzero(known == own[row])[0]}" for row in rows[:NUM_SHOWN].tolist()]
            warn_once(
                f"{len(rows)} of the {len(own)} {second.name} images of task '{first.task.name}' are equal to "
                f"{first.name} images, byte for byte: rows {', '.join(pairs)}{', ...' * (len(rows) > NUM_SHOWN)}. "
                f"The {second.name} accuracy counts them."
            )
