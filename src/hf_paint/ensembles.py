"""Output-space ensembles: the logits of two models are interpolated, not their weights (WiSE-FT, appendix)."""

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.interpolation import combine_tensor
from hf_paint.weights.compatibility import check_alpha


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
