"""Mean average precision: how well the scores of a model order all images by each class (PASCAL VOC)."""

import numpy as np
from numpy.typing import NDArray


def average_precisions(scores: NDArray[np.float32], labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the average precision of each class, shape (num_classes,).

    It is the area under the precision-recall curve without interpolation, `sum_n (R_n - R_(n-1)) P_n` over the
    distinct scores in descending order, as `sklearn.metrics.average_precision_score` defines it. Images with the same
    score are retrieved together, so their order does not matter.

    The scores of all images are needed at once: 50,000 images and 1,000 classes take 200 MB in float32, and twice that
    for a moment on the device where the processes gather them. They are read one class after another, and not kept.

    Args:
        scores: shape (num_images, num_classes); higher scores are ranked first.
        labels: shape (num_images, max_classes), classes of each image, padded with -1.

    Returns:
        Average precisions in [0, 1]. They are NaN for classes that all or none of the images have.

    Example:
        >>> average_precisions(np.array([[0.9], [0.5], [0.1]], dtype=np.float32), np.array([[0], [-1], [0]]))
        array([0.83333333])
    """
    num_images, num_classes = scores.shape
    images, places = np.nonzero(labels >= 0)
    by_class = np.argsort(labels[images, places], kind="stable")
    ends = np.cumsum(np.bincount(labels[images, places], minlength=num_classes))
    values = np.full(num_classes, np.nan)
    for index, own in enumerate(np.split(images[by_class], ends[:-1])):
        if 0 < len(own) < num_images:
            values[index] = _average_precision(scores[:, index], own)
    return values


def mean_average_precision(values: NDArray[np.float64]) -> float | None:
    """Return the mean over the classes that have both images with the class and images without it; None without any.

    Args:
        values: Average precision of each class, shape (num_classes,), or NaN.

    Example:
        >>> mean_average_precision(np.array([0.5, np.nan, 1.0]))
        0.75
    """
    return None if np.isnan(values).all() else float(np.nanmean(values))


def _average_precision(scores: NDArray[np.float32], positives: NDArray[np.int64]) -> np.float64:
    """Return the mean precision at the score of each positive: each of them raises recall by the same step."""
    found, ordered = np.sort(scores[positives]), np.sort(scores)
    num_found = len(found) - np.searchsorted(found, found)  # positives with at least this score
    num_retrieved = len(ordered) - np.searchsorted(ordered, found)
    precision: np.float64 = (num_found / num_retrieved).mean()
    return precision
