"""One alpha per layer: shallow layers stay closer to theta_0 than deep ones (LiNeS, Wang et al., 2025)."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Method, check_share
from hf_paint.merging.interpolation import Weights, bits, combine_tensor
from hf_paint.weights.compatibility import check_alpha, check_compatible
from hf_paint.weights.layers import block_index, count_blocks, count_layers, layer_index


def lines_alphas(num_layers: int, alpha: float, beta: float) -> list[float]:
    """Return the LiNeS alphas, `alpha + beta * (l - 1) / (L - 1)` for l = 1 ... L (Wang et al., 2025, Section 4).

    As in the released code, L counts only the encoder layers or blocks; everything else (embeddings, the norms before
    and after the encoder, pooling head, projection) moves by `alpha`. To use the alphas with `interpolate_layerwise`,
    add those of the embeddings and of what follows the encoder: `[alpha, *lines_alphas(12, alpha, beta), alpha]`.

    Args:
        num_layers: Number of encoder layers L.
        alpha: Alpha for the first layer, and for everything outside the layers.
        beta: Difference in alpha between the last and the first layer.

    Raises:
        InputError: If there are fewer than two layers.

    Example:
        >>> lines_alphas(5, 0.25, 0.5)
        [0.25, 0.375, 0.5, 0.625, 0.75]
    """
    if num_layers < 2:
        raise InputError(f"LiNeS needs at least two encoder layers, got {num_layers}.")
    return [alpha + beta * layer / (num_layers - 1) for layer in range(num_layers)]


def interpolate_layerwise(
    theta_0: Weights,
    theta_1: Weights,
    alphas: Sequence[float] | Mapping[str, float],
    *,
    default: float | None = None,
    extrapolate: bool = False,
) -> dict[str, Tensor]:
    """Interpolate each layer with its own alpha. If all alphas are equal, this is `interpolate`, bit for bit.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning, with the same names, shapes and dtypes.
        alphas: Either a list with one alpha per layer of the image tower, in the order of `layer_index` (e.g. from
            `lines_alphas`), or a mapping from regular expressions to alphas. If a tensor name matches several
            expressions, the first one applies.
        default: Alpha for tensors that match no regular expression, or that are outside the image tower. Required with
            regular expressions; not needed for tensors outside the image tower if they are frozen.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        name -> tensor, in the same dtypes as the inputs and as exact as `interpolate`.

    Raises:
        InputError: If the weights are not compatible, or if an alpha is missing, unused or out of range.

    Example:
        >>> theta_0 = {"a.w": torch.zeros(1), "b.w": torch.zeros(1)}
        >>> theta_1 = {"a.w": torch.ones(1), "b.w": torch.ones(1)}
        >>> interpolate_layerwise(theta_0, theta_1, {"^a": 0.25}, default=0.5)
        {'a.w': tensor([0.2500]), 'b.w': tensor([0.5000])}
    """
    check_compatible(theta_0, theta_1)
    if isinstance(alphas, Mapping):
        chosen = _match(list(theta_0), alphas, default)
    else:
        chosen = _by_layer(list(theta_0), alphas, default)
    for alpha in chosen.values():
        check_alpha(alpha, extrapolate=extrapolate)
    for name in theta_0.keys() - chosen.keys():
        if not torch.equal(bits(theta_0[name]), bits(theta_1[name])):
            raise InputError(
                f"Tensor '{name}' differs but is not in any layer of the image tower. Set a `default` alpha for it."
            )
    return {name: combine_tensor(name, x_0, [(theta_1[name], chosen.get(name, 0.0))]) for name, x_0 in theta_0.items()}


def _by_layer(names: Sequence[str], alphas: Sequence[float], default: float | None) -> dict[str, float]:
    """Return name -> alpha. Without a default, tensors outside the image tower are omitted."""
    layers = {name: layer_index(name) for name in names}
    num_layers = count_layers(names)
    if len(alphas) != num_layers:
        raise InputError(
            f"The image tower has {num_layers} layers (embeddings, encoder layers, and the layers after them), got "
            f"{len(alphas)} alphas. Pass one alpha per layer."
        )
    chosen = {name: alphas[layer] for name, layer in layers.items() if layer is not None}
    return chosen if default is None else dict.fromkeys(names, default) | chosen


def _match(names: Sequence[str], alphas: Mapping[str, float], default: float | None) -> dict[str, float]:
    """Return name -> alpha, taken from the first regular expression that matches the name."""
    if default is None:
        raise InputError("`default` is required with regular expressions: it applies to tensors that match none.")
    for pattern in alphas:
        try:
            matched = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise InputError(f"'{pattern}' is not a regular expression: {error}.") from error
        if not matched:
            raise InputError(f"'{pattern}' matches no tensor name. Names look like '{names[0]}'.")
    return {name: next((alphas[p] for p in alphas if re.search(p, name)), default) for name in names}


@dataclass(frozen=True, kw_only=True)
class Lines(Method):
    """LiNeS: encoder layer l moves by `alpha * (1 - beta + beta (l - 1) / (L - 1))` (Wang et al., 2025, Section 4).

    Everything outside the encoder layers moves as little as the first of them. What the paper calls alpha and beta
    corresponds to `alpha (1 - beta)` and `alpha beta` here, so that alpha 0 gives theta_0 and the last layer moves by
    alpha.
    """

    name: ClassVar[str] = "lines"
    end: ClassVar[str] = "LiNeS"
    merges: ClassVar[bool] = True
    beta: float = 0.5

    def __post_init__(self) -> None:
        check_share(self.name, "beta", self.beta)

    def check(self, theta_0: Weights) -> None:
        """Check that there are at least two encoder layers."""
        self._factors(theta_0)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the fine-tuned model, with the change in each layer scaled."""
        (theta,) = thetas.values()
        check_compatible(theta_0, theta)
        factors = self._factors(theta_0)
        return {name: combine_tensor(name, x_0, [(theta[name], factors[name])]) for name, x_0 in theta_0.items()}

    def _factors(self, names: Collection[str]) -> dict[str, float]:
        outside = 1 - self.beta
        by_block = lines_alphas(count_blocks(names), outside, self.beta)
        blocks = {name: block_index(name) for name in names}
        return {name: outside if block is None else by_block[block] for name, block in blocks.items()}

    def sentence(self) -> str:
        """Return text for the model card that says how each layer is scaled."""
        return (
            "`theta_1` is the fine-tuned model with the change of each encoder layer scaled by its depth, from "
            f"{1 - self.beta:g} for the first layer and everything outside the encoder layers to 1 for the last "
            "layer (LiNeS)."
        )


@dataclass(frozen=True, kw_only=True)
class Layerwise(Method):
    """Each layer moves by alpha times its own factor.

    Attributes:
        factors: Factors in [0, 1], either as a list with one factor per layer (embeddings first, projection last) or
            as a mapping from regular expressions to factors.
        default: Factor for tensors that match no regular expression.
    """

    name: ClassVar[str] = "layerwise"
    end: ClassVar[str] = "layerwise"
    merges: ClassVar[bool] = True
    factors: Mapping[str, float] | Sequence[float] = field(default_factory=dict)
    default: float = 1.0

    def __post_init__(self) -> None:
        factors: list[float] = []
        if isinstance(self.factors, Mapping) and all(isinstance(pattern, str) for pattern in self.factors):
            factors = [*self.factors.values()]
        elif isinstance(self.factors, (list, tuple)):
            factors = [*self.factors]
        if not factors:
            raise InputError(
                "The method 'layerwise' needs `factors`: {regular expression: factor}, or a list with one factor per "
                f"layer; got {self.factors!r}."
            )
        for factor in factors:
            check_share(self.name, "factors", factor)
        check_share(self.name, "default", self.default)

    def check(self, theta_0: Weights) -> None:
        """Check that there is one factor per layer, and that each regular expression matches a tensor."""
        interpolate_layerwise(theta_0, theta_0, self.factors, default=self.default)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the fine-tuned model, with the change in each layer scaled."""
        (theta,) = thetas.values()
        return interpolate_layerwise(theta_0, theta, self.factors, default=self.default)

    def sentence(self) -> str:
        """Return text for the model card that says how each layer is scaled."""
        if isinstance(self.factors, Mapping):
            parts = ", ".join(f"{factor:g} for `{pattern}`" for pattern, factor in self.factors.items())
            scale = f"{parts}, and {self.default:g} for all other tensors"
        else:
            scale = f"{', '.join(f'{factor:g}' for factor in self.factors)} (from the embeddings to the projection)"
        return f"`theta_1` is the fine-tuned model with the change of each layer scaled by {scale}."
