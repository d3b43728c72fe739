"""Output-space ensembles: the logits of two models are interpolated, not their weights (WiSE-FT, appendix)."""

from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hf_paint.compatibility import check_alpha
from hf_paint.errors import InputError
from hf_paint.heads import ZeroShotHead
from hf_paint.interpolation import combine_tensor


@torch.no_grad()
def collect_logits(tower: nn.Module, head: ZeroShotHead, batches: Iterable[Tensor]) -> Tensor:
    """Return the logits (num_images, num_classes) of an image tower, for `ensemble_logits` at any alpha.

    Args:
        tower: The image tower, on the device of the head.
        head: The zero-shot head of the task.
        batches: Normalised pixels, each of shape (batch, 3, height, width), in the same order for both models.

    Example:
        >>> head = build_zero_shot_head(model, tokenizer, ["cat", "dog"], ["a photo of a {}."])
        >>> collect_logits(image_tower(model), head, [torch.randn(3, 3, 32, 32), torch.randn(1, 3, 32, 32)]).shape
        torch.Size([4, 2])
    """
    return torch.cat([head(tower(pixel_values=pixels).image_embeds) for pixels in batches])


def ensemble_logits(logits_0: Tensor, logits_1: Tensor, alpha: float) -> Tensor:
    """Return `(1 - alpha) * f(theta_0) + alpha * f(theta_1)`, with the exactness of `interpolate`.

    For a model that is linear in its weights between theta_0 and theta_1 it equals interpolating the weights (WiSE-FT,
    Proposition 1). It costs two forward passes at inference, interpolated weights cost one.

    Args:
        logits_0: shape (num_images, num_classes), of the model before fine-tuning.
        logits_1: The same of the model after fine-tuning, for the same images and classes.
        alpha: 0 is the first, 1 is the second.

    Raises:
        InputError: If the shapes or dtypes differ, or alpha is out of range.

    Example:
        >>> ensemble_logits(torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 0.0]]), 0.25)
        tensor([[0.5000, 3.0000]])
    """
    check_alpha(alpha)
    if logits_0.shape != logits_1.shape or logits_0.dtype != logits_1.dtype:
        given = " and ".join(f"{tuple(logits.shape)} {logits.dtype}" for logits in (logits_0, logits_1))
        raise InputError(f"Logits of the same images and classes have one shape and dtype, got {given}.")
    return combine_tensor("logits", logits_0, [(logits_1, alpha)])


def sweep_ensemble(
    logits_0: Tensor, logits_1: Tensor, labels: Tensor, alphas: Iterable[float]
) -> dict[float, NDArray[np.bool_]]:
    """Return which images the ensemble gets right at each alpha, without a forward pass.

    Args:
        logits_0: shape (num_images, num_classes), of the model before fine-tuning.
        logits_1: The same of the model after fine-tuning.
        labels: shape (num_images,), class indices.
        alphas: The alphas.

    Returns:
        alpha -> shape (num_images,), as `paired_bootstrap_interval` takes it; its mean is the accuracy.

    Raises:
        InputError: As `ensemble_logits`.

    Example:
        >>> logits_0, logits_1 = torch.tensor([[0.0, 4.0]]), torch.tensor([[2.0, 0.0]])
        >>> sweep_ensemble(logits_0, logits_1, torch.tensor([0]), [0.5, 0.75])
        {0.5: array([False]), 0.75: array([ True])}
    """
    return {
        alpha: (ensemble_logits(logits_0, logits_1, alpha).argmax(dim=-1) == labels).cpu().numpy() for alpha in alphas
    }
