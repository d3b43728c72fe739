"""What the images of a task are like: sizes, modes, unreadable images, and images that occur more than once."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from hf_paint.data.near_duplicates import find_near_duplicates
from hf_paint.data.overlaps import Pair, find_equal_images, make_pairs
from hf_paint.data.scans import Scan, scan_images
from hf_paint.data.splits import Split
from hf_paint.data.unreadable import Unreadable, list_unreadable


MODEL_SIZE = 224
"""Width and height of the images that most CLIP models read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """What the images of all splits of a task are like.

    Attributes:
        widths: Least, median and greatest width, in pixels; zeros if no image can be read.
        heights: Least, median and greatest height, in pixels.
        num_small: Number of images whose shorter side is smaller than `MODEL_SIZE`.
        modes: Pillow's mode -> number of images stored in it.
        unreadable: All images that cannot be read, including those that the task skips.
        equal: Images whose stored bytes are equal to those of an earlier image, of the same or another split.
        similar: Images that look nearly like an image of another split, without those in `equal`.
    """

    widths: tuple[int, int, int]
    heights: tuple[int, int, int]
    num_small: int
    modes: Mapping[str, int]
    unreadable: Sequence[Unreadable]
    equal: Sequence[Pair]
    similar: Sequence[Pair]


def summarize_images(splits: Mapping[str, Split]) -> ImageSummary:
    """Read all images of splits that are not streamed (see `scan_images`), and compare them."""
    scans = {name: scan_images(split) for name, split in splits.items()}
    unreadable = [image for split in splits.values() for image in (*split.skipped, *list_unreadable(split))]
    sizes = np.concatenate([scan.sizes for scan in scans.values()])
    modes = Counter(mode for scan in scans.values() for mode in scan.modes.tolist() if mode)
    sizes = sizes[sizes.min(axis=1) > 0]
    problems = {name: scan.problems for name, scan in scans.items()}
    equal = find_equal_images(splits.values(), without=problems)
    repeated = {(pair.second.split, pair.second.row) for pair in equal}
    similar = [pair for pair in _find_similar(splits, scans) if (pair.second.split, pair.second.row) not in repeated]
    return ImageSummary(
        widths=_extent(sizes[:, 0].tolist()),
        heights=_extent(sizes[:, 1].tolist()),
        num_small=int((sizes.min(axis=1, initial=MODEL_SIZE) < MODEL_SIZE).sum()),
        modes=dict(modes.most_common()),
        unreadable=unreadable,
        equal=equal,
        similar=similar,
    )


def _extent(values: Sequence[int]) -> tuple[int, int, int]:
    return (min(values), int(np.median(values)), max(values)) if values else (0, 0, 0)


def _find_similar(splits: Mapping[str, Split], scans: Mapping[str, Scan]) -> list[Pair]:
    """Return images of one split that look nearly like one of an earlier split."""
    found = [
        ((first, row), (second, other), correlation)
        for first, second in combinations(splits, 2)
        for row, other, correlation in find_near_duplicates(scans[first].thumbnails, scans[second].thumbnails)
    ]
    return make_pairs(splits.values(), found)
