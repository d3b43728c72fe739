"""Mean average precision: how well the scores of a model order all images by each class (PASCAL VOC)."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


CHUNK = 2**22
"""Maximum number of scores that are sorted at once, about 200 MB with what is computed from them."""


def average_precisions(scores: Tensor, labels: Tensor) -> NDArray[np.float64]:
    """Return the average precision of each class, shape (num_classes,).

    It is the area under the precision-recall curve without interpolation, `sum_n (R_n - R_(n-1)) P_n` over the
    distinct scores in descending order, as `sklearn.metrics.average_precision_score` defines it. Images with the same
    score are retrieved together, so their order does not matter.

    The scores of all images are needed at once. 50,000 images and 1,000 classes take 200 MB in float32, and briefly
    twice that where the processes gather them. They are sorted in chunks of classes, and nothing of them is kept.

    Args:
        scores: shape (num_images, num_classes); higher scores are ranked first.
        labels: shape (num_images, max_classes), classes of each image, padded with -1.

    Returns:
        Average precisions in [0, 1]. They are NaN for classes that all or none of the images have.

    Example:
        >>> average_precisions(torch.tensor([[0.9], [0.5], [0.1]]), torch.tensor([[0], [-1], [0]]))
        array([0.83333333])
    """
    step = max(1, CHUNK // max(1, len(scores)))
    chunks = [
        _average_precisions(scores[:, start : start + step], labels - start)
        for start in range(0, scores.shape[1], step)
    ]
    values: NDArray[np.float64] = torch.cat(chunks).numpy()
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


def _average_precisions(scores: Tensor, labels: Tensor) -> Tensor:
    """Return the average precisions (num_classes,) in float64; labels outside the range of the classes are ignored."""
    num_images, num_classes = scores.shape
    positive = torch.zeros((num_images, num_classes + 1), dtype=torch.bool)
    inside = (labels >= 0) & (labels < num_classes)
    positive.scatter_(1, labels.where(inside, torch.full_like(labels, num_classes)), True)
    ordered, order = scores.T.sort(dim=1, descending=True)  # (num_classes, num_images), as are all of the following
    found = positive[:, :num_classes].T.gather(1, order).cumsum(dim=1)
    is_last = torch.ones_like(ordered, dtype=torch.bool)  # of the images with this score
    is_last[:, :-1] = ordered[:, 1:] != ordered[:, :-1]
    found_before = torch.zeros_like(found)  # with higher scores
    found_before[:, 1:] = (found * is_last)[:, :-1].cummax(dim=1).values
    precision = found.double() / torch.arange(1, num_images + 1)
    total = found[:, -1]
    area = ((found - found_before) * is_last * precision).sum(dim=1) / total
    return area.where((total > 0) & (total < num_images), torch.nan)
