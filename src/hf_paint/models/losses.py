"""Cross-entropy against a head: for one right class per image, or several, among all classes or some of them.

The target of an image with several right classes is spread evenly over them. A softmax head describes an image by one
distribution over the classes, and this target is the one closest to saying that its classes are equally right: the
loss is least when the model gives each of them the same probability and nothing to the others. It needs no threshold
or bias for each class, which a zero-shot head does not have, and is the loss of a single label if there is only one.
Label smoothing is the same step further: it spreads a fraction of the target over all classes.
"""

import torch
from torch import Tensor
from torch.nn import functional


NO_CLASS = -1
"""Label of an image without one, and padding after the classes of an image that has fewer than others."""


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy in nats.

    Args:
        logits: shape (batch, num_classes).
        labels: shape (batch,), index of each image's class; or (batch, max_classes), the classes of each image, padded
            with -1. Images without a class are left out of the mean.
        label_smoothing: Fraction of the target that is spread evenly over all classes.

    Example:
        >>> logits = torch.tensor([[0.0, 0.0, 0.0, 0.0]])
        >>> cross_entropy(logits, torch.tensor([[0, 2, -1]]))  # log(4)
        tensor(1.3863)
    """
    if labels.dim() == 1:
        return functional.cross_entropy(logits, labels, label_smoothing=label_smoothing)
    others = torch.zeros_like(logits, dtype=torch.bool)
    return masked_cross_entropy(logits, labels, others, label_smoothing=label_smoothing)


def masked_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy, in nats, with a softmax over only some columns of each image.

    Columns are masked because selecting different columns for each image would make a GPU wait for the CPU.

    Args:
        logits: shape (batch, num_columns).
        labels: shape (batch,), index of each image's correct column; or (batch, max_classes), as in `cross_entropy`.
        others: shape (batch, num_columns), true for columns to exclude from an image's softmax.
        label_smoothing: Fraction of the label that is spread evenly over the columns of the image.

    Example:
        >>> others = torch.tensor([[False, False, True]])
        >>> masked_cross_entropy(torch.tensor([[100.0, 0.0, 300.0]]), torch.tensor([0]), others)
        tensor(0.)
    """
    log_p = logits.float().masked_fill(others, -torch.inf).log_softmax(dim=-1)  # autocast would use bfloat16
    loss = functional.nll_loss(log_p, labels) if labels.dim() == 1 else _mean(_spread(log_p, labels), labels)
    if label_smoothing == 0.0:
        return loss
    num_columns = others.shape[1]
    own_share = num_columns / (num_columns - others.sum(dim=1))  # exactly 1 if no columns are excluded
    uniform = -log_p.masked_fill(others, 0).sum(dim=1) * own_share
    mean_uniform = uniform.mean() if labels.dim() == 1 else _mean(uniform, labels)
    return (1 - label_smoothing) * loss + label_smoothing / num_columns * mean_uniform


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each image, shape (batch,), in nats; it is 0 for an image without a class."""
    if labels.dim() == 1:
        return functional.cross_entropy(logits, labels, reduction="none", ignore_index=NO_CLASS)
    return _spread(logits.log_softmax(dim=-1), labels)


def entropies(logits: Tensor) -> Tensor:
    """Return the entropy of each image's softmax in nats, shape (batch,); it is differentiable.

    Args:
        logits: shape (batch, num_columns); minus infinity for columns that stay out of an image's softmax.

    Example:
        >>> entropies(torch.tensor([[0.0, 0.0, -torch.inf]]))  # log(2)
        tensor([0.6931])
    """
    log_p = logits.log_softmax(dim=-1)
    return -(log_p.exp() * log_p.masked_fill(log_p.isneginf(), 0)).sum(dim=-1)  # 0 * inf would be NaN


def relative_entropies(logits: Tensor) -> Tensor:
    """Return each image's entropy as a fraction of the largest one, log(number of columns), shape (batch,).

    It is in [0, 1], so that tasks with different numbers of classes can be compared, and 0 if there is one column.
    """
    largest = (~logits.isneginf()).sum(dim=-1).clamp(min=2).log()
    return entropies(logits) / largest


def has_class(labels: Tensor) -> Tensor:
    """Return whether each image of a multi-label task has a class, shape (batch,); labels are (batch, max_classes)."""
    return (labels >= 0).any(dim=1)


def _spread(log_p: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of `-log_p` (batch, num_columns) over the classes of each image, shape (batch,)."""
    is_padding = labels < 0
    own = log_p.gather(1, labels.clamp(min=0)).masked_fill(is_padding, 0)
    return -own.sum(dim=1) / (~is_padding).sum(dim=1).clamp(min=1)


def _mean(values: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of values (batch,) over the images that have a class."""
    counts = has_class(labels)
    return (values * counts).sum() / counts.sum().clamp(min=1)
