"""The strata of a split, from each of which the same share of images is drawn: into other splits, and into samples."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_paint.data.choices import Choices
from hf_paint.data.label_lists import NO_CLASS


if TYPE_CHECKING:
    from hf_paint.data.splits import Split


def find_strata(split: "Split") -> NDArray[np.int64]:
    """Return the number of the stratum of each image, shape (num_images,).

    It is the class of the image or, of several classes, the one that the fewest images have; images without a class
    are one more stratum. For multiple choice, it is the type of the answer, or the same for all rows.
    """
    if split.choices is not None:
        return _answer_types(split.choices)
    labels = split.labels()
    if labels.ndim == 1:
        return labels
    counts = np.bincount(labels[labels != NO_CLASS], minlength=1)
    rarity = np.where(labels == NO_CLASS, len(split.rows) + 1, counts[labels])  # padding is never the rarest
    rarest: NDArray[np.int64] = np.take_along_axis(labels, rarity.argmin(axis=1)[:, None], axis=1)[:, 0]
    return rarest


def _answer_types(choices: Choices) -> NDArray[np.int64]:
    types = choices.answer_types or ("",) * len(choices.labels)
    numbers: NDArray[np.int64] = np.unique(np.array(types), return_inverse=True)[1].astype(np.int64)
    return numbers
