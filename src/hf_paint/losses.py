"""The loss of images that are each compared with some of the columns of the logits alone."""

import torch
from torch import Tensor
from torch.nn import functional


def masked_cross_entropy(logits: Tensor, labels: Tensor, others: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross-entropy in nats, each image against its own columns.

    One masked matrix for all images: to pick the columns of each one would make a GPU wait for the CPU.

    Args:
        logits: shape (batch, num_columns).
        labels: shape (batch,), the right column of each image.
        others: shape (batch, num_columns), which columns an image is not compared with.
        label_smoothing: The share of the label that is spread over the columns of the image.

    Example:
        >>> others = torch.tensor([[False, False, True]])
        >>> masked_cross_entropy(torch.tensor([[100.0, 0.0, 300.0]]), torch.tensor([0]), others)
        tensor(0.)
    """
    log_p = logits.float().masked_fill(others, -torch.inf).log_softmax(dim=-1)  # autocast would leave it in bfloat16
    loss = functional.nll_loss(log_p, labels)
    if label_smoothing == 0.0:
        return loss
    num_columns = others.shape[1]
    own_share = num_columns / (num_columns - others.sum(dim=1))  # 1 where all are its own, so that nothing is rounded
    uniform = -log_p.masked_fill(others, 0).sum(dim=1) * own_share
    return (1 - label_smoothing) * loss + label_smoothing / num_columns * uniform.mean()
