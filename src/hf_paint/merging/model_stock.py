"""Model Stock: interpolate towards the mean of fine-tuned models, based on their angle (Jang et al., 2024)."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights, combine_tensor, subtract
from hf_paint.models.devices import to_float64
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, checked
from hf_paint.weights.layers import layer_index


def interpolate_model_stock(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    *,
    group: Callable[[str], Hashable] = lambda name: name,
) -> dict[str, Tensor]:
    """Interpolate between a model and the mean of its fine-tuned models (Jang et al., 2024). Needs no validation data.

    Return `(1 - t) * theta_0 + t * mean_i theta_i`, where `model_stock_alphas` computes a separate `t` for each group
    of tensors.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning. Expects two or more models, fine-tuned on the same task with
            different seeds or hyper-parameters.
        group: Called as `group(name)`; returns the group of a tensor. The tensors in a group share the same angle. By
            default, each tensor is its own group; pass `layer_index` to group tensors by layer.

    Returns:
        name -> tensor, in the same dtypes as the inputs and as exact as `combine`.

    Raises:
        InputError: If there are fewer than two models, the weights are not compatible, or an integer tensor differs.

    Example:
        >>> thetas = {"a": {"w": torch.tensor([1.0, 1.0])}, "b": {"w": torch.tensor([1.0, 0.0])}}
        >>> interpolate_model_stock({"w": torch.zeros(2)}, thetas)
        {'w': tensor([0.8284, 0.4142])}
    """
    alphas = model_stock_alphas(theta_0, thetas, group=group)
    return {
        name: combine_tensor(
            name, x_0, [(theta[name], alphas[group(name)] / len(thetas)) for theta in thetas.values()], [*thetas]
        )
        for name, x_0 in theta_0.items()
    }


def model_stock_alphas(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    *,
    group: Callable[[str], Hashable] = lambda name: name,
) -> dict[Hashable, float]:
    """Return group -> `t = k cos / (1 + (k - 1) cos)` for k fine-tuned models (Jang et al., 2024; appendix for k > 2).

    `cos` is the cosine similarity of two task vectors, averaged over all pairs of models and clipped to [0, 1]. If it
    is 0, theta_0 is the best estimate and `t` is 0. The cosine of an all-zero task vector with any other is 0.

    Args:
        theta_0: See `interpolate_model_stock`.
        thetas: See `interpolate_model_stock`.
        group: See `interpolate_model_stock`.

    Raises:
        InputError: Same as for `interpolate_model_stock`.
    """
    if len(thetas) < 2:
        raise InputError(f"Model Stock needs at least two fine-tuned models, got {len(thetas)}.")
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)
    theta_0, thetas = checked(theta_0, "theta_0"), all_finite(thetas)
    products: dict[Hashable, Tensor] = {}
    for name, x_0 in theta_0.items():
        taus = torch.stack([to_float64(subtract(name, x_0, theta[name]).flatten()) for theta in thetas.values()])
        products[group(name)] = products.get(group(name), 0) + taus @ taus.T  # (num_models, num_models)
    return {key: _alpha(product) for key, product in products.items()}


def _alpha(products: Tensor) -> float:
    """Return t, given the inner products of k task vectors, shape (k, k)."""
    k = len(products)
    norms = products.diagonal().sqrt()
    cosines = torch.where(norms.outer(norms) > 0, products / norms.outer(norms), 0)
    pairs = list(combinations(range(k), 2))
    cos = min(max(sum(float(cosines[pair]) for pair in pairs) / len(pairs), 0.0), 1.0)
    return k * cos / (1 + (k - 1) * cos)


@dataclass(frozen=True, kw_only=True)
class ModelStock(Several):
    """Model Stock: interpolation towards the mean of the models, by a ratio computed from the angle between them."""

    name: ClassVar[str] = "model_stock"
    end: ClassVar[str] = "Model Stock"
    chooses: ClassVar[bool] = True
    by_layer: bool = False

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the interpolation between theta_0 and the mean of the models."""
        return interpolate_model_stock(theta_0, thetas, **({"group": layer_index} if self.by_layer else {}))

    def sentence(self) -> str:
        """Return text for the model card that describes theta_1."""
        each = "layer" if self.by_layer else "tensor"
        return (
            "`theta_1` is an interpolation between `theta_0` and the mean of the fine-tuned models; the ratio of each "
            f"{each} is computed from the angle between the models (Model Stock)."
        )
