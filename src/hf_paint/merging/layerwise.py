"""An alpha for each layer: shallow layers can stay closer to theta_0 than deep ones (LiNeS, Wang et al., 2025)."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Bench, Method, check_share
from hf_paint.merging.interpolation import Weights, bits, combine_tensor
from hf_paint.weights.compatibility import check_alpha, check_compatible
from hf_paint.weights.layers import count_layers, layer_index


def lines_alphas(num_layers: int, alpha: float, beta: float) -> list[float]:
    """Return the alphas of LiNeS, `alpha + beta * (l - 1) / (L - 1)` for l = 1 ... L (Wang et al., 2025, Section 4).

    Args:
        num_layers: L, all layers that `layer_index` tells apart: two more than the encoder of a CLIP model has.
        alpha: Of the first layer.
        beta: What the last layer has more.

    Raises:
        InputError: If there are fewer than two layers.

    Example:
        >>> lines_alphas(5, 0.25, 0.5)
        [0.25, 0.375, 0.5, 0.625, 0.75]
    """
    if num_layers < 2:
        raise InputError(f"LiNeS needs at least two layers, got {num_layers}.")
    return [alpha + beta * layer / (num_layers - 1) for layer in range(num_layers)]


def interpolate_layerwise(
    theta_0: Weights,
    theta_1: Weights,
    alphas: Sequence[float] | Mapping[str, float],
    *,
    default: float | None = None,
    extrapolate: bool = False,
) -> dict[str, Tensor]:
    """Interpolate each layer with an alpha of its own; with equal alphas it is `interpolate`, bit for bit.

    Args:
        theta_0: The weights before fine-tuning, name -> tensor.
        theta_1: The weights after fine-tuning, with the same names, shapes and dtypes.
        alphas: One per layer of the image tower in the order of `layer_index`, such as `lines_alphas` returns; or
            regular expression -> alpha, searched for in the name of the tensor, of which the first match counts.
        default: The alpha of a tensor that no regular expression matches, which they need; and of a tensor outside of
            the image tower, which needs none as long as it is frozen.
        extrapolate: Allow alphas outside [0, 1].

    Returns:
        name -> tensor, in the dtypes of the inputs, with the exactness of `interpolate`.

    Raises:
        InputError: If the weights do not fit together, or an alpha is missing, left over or out of range.

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
                f"Tensor '{name}' moved and is in no layer of the image tower: give it a `default` alpha."
            )
    return {name: combine_tensor(name, x_0, [(theta_1[name], chosen.get(name, 0.0))]) for name, x_0 in theta_0.items()}


def _by_layer(names: Sequence[str], alphas: Sequence[float], default: float | None) -> dict[str, float]:
    """Return name -> alpha, without the names that are in no layer if there is no default."""
    layers = {name: layer_index(name) for name in names}
    num_layers = count_layers(names)
    if len(alphas) != num_layers:
        raise InputError(
            f"The image tower has {num_layers} layers (embeddings, those of the encoder, and what comes after them), "
            f"got {len(alphas)} alphas. Give one for each."
        )
    chosen = {name: alphas[layer] for name, layer in layers.items() if layer is not None}
    return chosen if default is None else dict.fromkeys(names, default) | chosen


def _match(names: Sequence[str], alphas: Mapping[str, float], default: float | None) -> dict[str, float]:
    """Return name -> alpha of the first regular expression that matches."""
    if default is None:
        raise InputError("Regular expressions need a `default` alpha, for the tensors that none of them matches.")
    for pattern in alphas:
        try:
            matched = any(re.search(pattern, name) for name in names)
        except re.error as error:
            raise InputError(f"'{pattern}' is not a regular expression: {error}.") from error
        if not matched:
            raise InputError(f"'{pattern}' matches no tensor; the first is '{names[0]}'.")
    return {name: next((alphas[p] for p in alphas if re.search(p, name)), default) for name in names}


@dataclass(frozen=True, kw_only=True)
class Lines(Method):
    """Layer l of L moves by `alpha * (1 - beta + beta (l - 1) / (L - 1))` (LiNeS; Wang et al., 2025, Section 4).

    In the paper's letters, alpha and beta are `alpha (1 - beta)` and `alpha beta` here: alpha 0 is theta_0, and the
    last layer moves by alpha.
    """

    name: ClassVar[str] = "lines"
    end: ClassVar[str] = "LiNeS"
    merges: ClassVar[bool] = True
    beta: float = 0.5

    def __post_init__(self) -> None:
        check_share(self.name, "beta", self.beta)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the fine-tuned model with its layers scaled."""
        (theta,) = thetas.values()
        return interpolate_layerwise(theta_0, theta, lines_alphas(count_layers(theta_0), 1 - self.beta, self.beta))

    def sentence(self) -> str:
        """Return by how much each layer moves."""
        return (
            f"`theta_1` is the fine-tuned model with the change of its layers scaled by depth, from {1 - self.beta:g} "
            "at the embeddings to 1 at the end (LiNeS)."
        )


@dataclass(frozen=True, kw_only=True)
class Layerwise(Method):
    """Each layer moves by alpha times a factor of its own.

    Attributes:
        factors: One per layer, embeddings first and projection last, or regular expression -> factor, in [0, 1].
        default: The factor of what no regular expression matches.
    """

    name: ClassVar[str] = "layerwise"
    end: ClassVar[str] = "layerwise"
    merges: ClassVar[bool] = True
    factors: Mapping[str, float] | Sequence[float] = field(default_factory=dict)
    default: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.factors, Mapping):
            given = list(self.factors.values()) if all(isinstance(pattern, str) for pattern in self.factors) else []
        else:
            given = list(self.factors) if isinstance(self.factors, (list, tuple)) else []
        if not given:
            raise InputError(
                "The method 'layerwise' needs `factors`, {regular expression: factor} or a list of one per layer; got "
                f"{self.factors!r}."
            )
        for factor in given:
            check_share(self.name, "factors", factor)
        check_share(self.name, "default", self.default)

    def check(self, theta_0: Weights) -> None:
        """Refuse factors that are not one per layer, and regular expressions that match nothing."""
        interpolate_layerwise(theta_0, theta_0, self.factors, default=self.default)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the fine-tuned model with its layers scaled."""
        (theta,) = thetas.values()
        return interpolate_layerwise(theta_0, theta, self.factors, default=self.default)

    def sentence(self) -> str:
        """Return by how much each layer moves."""
        if isinstance(self.factors, Mapping):
            parts = ", ".join(f"{factor:g} for `{pattern}`" for pattern, factor in self.factors.items())
            scale = f"{parts}, and {self.default:g} for the others"
        else:
            scale = f"{', '.join(f'{factor:g}' for factor in self.factors)}, from the embeddings to the projection"
        return f"`theta_1` is the fine-tuned model with the change of its layers scaled by {scale}."
