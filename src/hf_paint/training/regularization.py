"""Penalties that keep a model near the one it started from: LDIFS on its features, L2-SP on its weights."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from hf_paint.documents.reading import parse_yaml
from hf_paint.errors import InputError, did_you_mean


PENALTIES = ("ldifs", "l2_sp")
EXPECTED = "must map `ldifs` or `l2_sp` to a weight of at least 0, like {ldifs: 10}"


def ldifs(features: Sequence[Tensor], original: Sequence[Tensor]) -> Tensor:
    """Return the distance in feature space between a model and the original one on a batch.

    The distance of an image is `mean_d mean_j (n(h_d) - n(g_d))_j ** 2`: the squared difference between its features
    `h_d` and their originals `g_d`, averaged over all entries `j` and then over the depths `d`. `n` scales features to
    unit length along their first dimension after the batch: the tokens of a transformer (so each channel of an image
    has unit length over its tokens), the channels of a convolution. This is `loss/ldifs.py` in the code released with
    "Fine-tuning can cripple your foundation model; preserving features may be the solution" (Mukhoti et al., 2024),
    whose default weight is 10.

    Args:
        features: Features at each depth: (batch, tokens, width), or (batch, channels, height, width).
        original: Those of the original model, of the same shapes.

    Returns:
        The mean distance over the images, shape ().

    Example:
        >>> ldifs([torch.tensor([[[3.0], [4.0]]])], [torch.tensor([[[4.0], [3.0]]])])  # 0.6, 0.8 and 0.8, 0.6
        tensor(0.0400)
    """
    distances = [(_unit(h) - _unit(g)).square().mean() for h, g in zip(features, original, strict=True)]
    return torch.stack(distances).mean()


def l2_sp(weights: Sequence[Tensor], start: Sequence[Tensor]) -> Tensor:
    """Return half the squared distance of weights from where they started, `||theta - theta_0|| ** 2 / 2`, shape ().

    This is L2-SP (Li et al., "Explicit inductive bias for transfer learning with convolutional networks", 2018,
    Equation 3), without a term of its own for a new head. The head that a training starts from (text
    embeddings, or what `head_steps` made of them) counts as part of theta_0.

    Example:
        >>> l2_sp([torch.tensor([3.0, 4.0])], [torch.zeros(2)])
        tensor(12.5000)
    """
    return torch.stack([(x - x_0).square().sum() for x, x_0 in zip(weights, start, strict=True)]).sum() / 2


def read_weights(given: object) -> dict[str, float] | None:
    """Return penalty -> weight, from a mapping or from what a flag says; None if nothing is given.

    Raises:
        InputError: If a penalty is unknown, or a weight is not a number of at least 0.

    Example:
        >>> read_weights("{ldifs: 10, l2_sp: 1e-3}")
        {'ldifs': 10.0, 'l2_sp': 0.001}
    """
    values = parse_yaml(given, "`regularization`") if isinstance(given, str) else given
    if values is None or values == "":
        return None
    if not isinstance(values, Mapping):
        raise InputError(f"`regularization` {EXPECTED}; got {values!r}.")
    for name in values:
        if name not in PENALTIES:
            hint = did_you_mean(str(name), PENALTIES)
            raise InputError(f"`regularization` {EXPECTED}; got the penalty '{name}'.{hint}")
    return {name: _weight(name, values[name]) for name in PENALTIES if name in values}


def _weight(name: str, value: object) -> float:
    try:
        weight = math.nan if isinstance(value, bool) else float(str(value))
    except ValueError:
        weight = math.nan
    if not 0 <= weight < math.inf:
        raise InputError(f"`regularization` {EXPECTED}; got {value!r} for `{name}`.")
    return weight


def weights_in_use(weights: Mapping[str, float] | str | None) -> dict[str, float]:
    """Return the penalties whose weight is not 0."""
    return {name: weight for name, weight in (read_weights(weights) or {}).items() if weight}


def _unit(features: Tensor) -> Tensor:
    return functional.normalize(features.float(), dim=1, eps=1e-10)
