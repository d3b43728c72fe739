"""Find rows and images that two splits of a task have in common, so that no model is tested on what it has seen."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from hf_paint.data.digests import read_digests
from hf_paint.data.label_lists import NO_CLASS
from hf_paint.data.splits import Split
from hf_paint.data.stored_images import stored_name, without_decoding
from hf_paint.errors import InputError, warn_once
from hf_paint.tasks.classification import LabelledTask


NUM_SHOWN = 3
"""Maximum number of pairs of images named in a message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where an image is.

    Attributes:
        split: `train`, `validation` or `test`.
        row: Row of the split.
        path: Path of its file, the name that the data set stores for it, or an empty string.
        class_name: Its class; an empty string if it has none, or may have several.
    """

    split: str
    row: int
    path: str
    class_name: str = ""

    def __str__(self) -> str:
        return f"'{self.path}'" if self.path else f"{self.split} row {self.row}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two images that are the same, or look nearly the same.

    Attributes:
        first: The earlier image.
        second: The image that repeats it.
        correlation: Correlation of their thumbnails; 1 for images whose stored bytes are equal.
    """

    first: Place
    second: Place
    correlation: float = 1.0

    @property
    def is_between_splits(self) -> bool:
        """Whether the images are in different splits."""
        return self.first.split != self.second.split

    @property
    def is_between_classes(self) -> bool:
        """Whether the images are in different classes."""
        return len({self.first.class_name, self.second.class_name} - {""}) == 2


def refuse_shared_rows(splits: Mapping[str, Split]) -> None:
    """Check that no row is in two splits of a task. Streams are not checked.

    Args:
        splits: Name -> split, all of the same task; an earlier split is named as the one to keep.

    Raises:
        InputError: If two splits contain the same row of the same file.
    """
    for (first, second), number in count_shared_rows(splits).items():
        raise InputError(
            f"{number} of the {len(splits[second].rows)} {second} rows of task '{splits[first].task.name}' are also "
            f"among its {len(splits[first].rows)} {first} rows, so accuracy would be measured on images that were "
            f"used before. Set `{first}` or `{second}` in `splits` to rows that the other does not contain."
        )


def count_shared_rows(splits: Mapping[str, Split]) -> dict[tuple[str, str], int]:
    """Return two splits -> number of rows in both, for splits that share any. Streams are not compared."""
    ids = {name: split.row_ids for name, split in splits.items() if split.row_ids is not None}
    shared = {(a, b): int(np.isin(ids[b], ids[a]).sum()) for a, b in combinations(ids, 2)}
    return {pair: number for pair, number in shared.items() if number}


def warn_of_equal_images(splits: Mapping[str, Split], cache_dir: Path | None = None) -> None:
    """Warn if two splits of a task contain images whose stored bytes are equal. Streams are not checked.

    Args:
        splits: Name -> split, all of the same task.
        cache_dir: Folder in which the digests of the images are kept.
    """
    stored = {name: split for name, split in splits.items() if split.row_ids is not None}
    for first, second in combinations(stored.values(), 2):
        pairs = [pair for pair in find_equal_images([first, second], cache_dir) if pair.is_between_splits]
        if pairs:
            shown = "; ".join(f"{pair.second} and {pair.first}" for pair in pairs[:NUM_SHOWN])
            warn_once(
                f"{len(pairs)} of the {len(second.rows)} {second.name} images of task '{first.task.name}' are equal "
                f"to {first.name} images, byte for byte: {shown}{'; ...' * (len(pairs) > NUM_SHOWN)}. "
                f"The {second.name} accuracy counts them."
            )


def find_equal_images(
    splits: Collection[Split], cache_dir: Path | None = None, *, without: Mapping[str, Collection[int]] | None = None
) -> list[Pair]:
    """Return each image whose stored bytes are equal to those of an earlier one, with the first of those.

    Args:
        splits: Splits of a task that are not streamed; the images of a split come after those of the splits before it.
        cache_dir: Folder in which the digests of the images are kept.
        without: Split -> rows to leave out.
    """
    known: dict[bytes, tuple[str, int]] = {}
    found: list[tuple[tuple[str, int], tuple[str, int], float]] = []
    for split in splits:
        left_out = (without or {}).get(split.name, ())
        for row, digest in enumerate(read_digests(split, cache_dir).tolist()):
            if row not in left_out:
                first = known.setdefault(digest, (split.name, row))
                if first != (split.name, row):
                    found.append((first, (split.name, row), 1.0))
    return make_pairs(splits, found)


def make_pairs(
    splits: Collection[Split], found: Sequence[tuple[tuple[str, int], tuple[str, int], float]]
) -> list[Pair]:
    """Return pairs of images, given the split and the row of either, and their correlation."""
    places: dict[tuple[str, int], Place] = {}
    for split in splits:
        column = split.task.image_column
        rows = sorted({row for *images, _ in found for name, row in images if name == split.name})
        values = without_decoding(split.rows.select_columns([column]), column)[rows][column] if rows else []
        for row, value in zip(rows, values, strict=True):
            name = _class_of(split, row)
            places[split.name, row] = Place(split=split.name, row=row, path=stored_name(value), class_name=name)
    return [Pair(first=places[first], second=places[second], correlation=value) for first, second, value in found]


def _class_of(split: Split, row: int) -> str:
    """Return the class of an image; an empty string if it has none, or may have several."""
    indices = split.label_indices
    if not isinstance(split.task, LabelledTask) or indices is None or indices.ndim > 1 or indices[row] == NO_CLASS:
        return ""
    return split.class_names[int(indices[row])]
