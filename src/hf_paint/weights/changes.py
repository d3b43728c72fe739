"""The change made by fine-tuning, layer by layer: norms and cosine similarities, streamed from safetensors."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.headers import FLOATS, read_checkpoint
from hf_paint.weights.layers import IMAGE_TOWER, layer_index
from hf_paint.weights.streaming import Tensors, read_together


ALL = "all"
"""The key of the whole image tower, besides the keys of its layers."""


@dataclass(frozen=True, slots=True, eq=False)
class WeightChanges:
    """The distance and direction of fine-tuned models from their base (PAINT, scale analysis).

    Undefined values, such as the cosine of an unchanged layer, are NaN.

    Attributes:
        models: The names of the fine-tuned models.
        products: Layer -> the inner products of theta_0 and of each change `theta_i - theta_0`, in the order of
            `models`: shape (1 + num_models, 1 + num_models), float64. `all` comes first, then the layers in order.
    """

    models: tuple[str, ...]
    products: Mapping[str, NDArray[np.float64]]

    def norm(self, model: str, layer: str = ALL) -> float:
        """Return `||theta_1 - theta_0||`."""
        index = self._index(model)
        return math.sqrt(self.products[layer][index, index])

    def relative_norm(self, model: str, layer: str = ALL) -> float:
        """Return `||theta_1 - theta_0|| / ||theta_0||`."""
        return _ratio(self.norm(model, layer), math.sqrt(self.products[layer][0, 0]))

    def cosine_to_base(self, model: str, layer: str = ALL) -> float:
        """Return the cosine similarity of theta_0 and theta_1; it is higher for larger models, which change less."""
        products, index = self.products[layer], self._index(model)
        squared_0, along, squared_change = products[0, 0], products[0, index], products[index, index]
        squared_1 = squared_0 + 2 * along + squared_change
        return _cosine(squared_0 + along, squared_0, squared_1)

    def cosine(self, model: str, other: str, layer: str = ALL) -> float:
        """Return the cosine similarity of the changes of two models; near 0, they do not interfere."""
        products, i, j = self.products[layer], self._index(model), self._index(other)
        return _cosine(products[i, j], products[i, i], products[j, j])

    def _index(self, model: str) -> int:
        return 1 + self.models.index(model)


def measure_weight_changes(folder_0: str | Path, folders: Mapping[str, str | Path]) -> WeightChanges:
    """Compare the image towers of fine-tuned models with their base's.

    Each file is read once, a few megabytes at a time, and all sums are float64.

    Args:
        folder_0: The model before fine-tuning, a folder with safetensors in one file or several.
        folders: Model -> its folder after fine-tuning.

    Raises:
        InputError: If a folder has no CLIP model in safetensors, or the image towers are not compatible.

    Example:
        >>> changes = measure_weight_changes(model_folder, {"mnist": model_folder})
        >>> list(changes.products)
        ['all', 'embeddings', 'layer 0', 'layer 1', 'projection']
        >>> changes.norm("mnist"), round(changes.cosine_to_base("mnist", "layer 0"), 6)
        (0.0, 1.0)
    """
    theta_0 = _image_tower(folder_0)
    frozen = {name: tensor for name, tensor in theta_0.items() if name.startswith("visual_projection.")}
    towers = [theta_0]
    for name, folder in folders.items():
        towers.append(frozen | dict(_image_tower(folder)))  # a vision model without a projection uses theta_0's
        check_compatible(theta_0, towers[-1], name, any_float=True)
    products = {layer: np.zeros((len(towers), len(towers))) for layer in _in_order(theta_0)}
    for name in theta_0:
        for values in read_together([tower[name] for tower in towers]):
            values[1:] -= values[0]
            products[layer_of(name)] += values @ values.T
    return WeightChanges(tuple(folders), {ALL: sum(products.values(), np.zeros(()))} | products)


def layer_of(name: str) -> str:
    """Return the layer of a tensor of the image tower: `embeddings`, `layer 0`, ..., `projection`.

    The layer norm before the encoder belongs to the embeddings, the one after it to the projection.
    """
    layer = layer_index(name) or 0
    return f"layer {layer - 1}" if layer > 0 else ("projection" if layer else "embeddings")


def _image_tower(folder: str | Path) -> Tensors:
    """Return the floating-point tensors of the image tower; older files also contain position ids."""
    tensors = read_checkpoint(folder).tensors.items()
    tower = {n: t for n, t in tensors if n.startswith(IMAGE_TOWER) and t.dtype in FLOATS}
    if not tower:
        raise InputError(f"'{folder}' has no model with an image tower: no tensor name starts with `vision_model.`.")
    return tower


def _in_order(tower: Tensors) -> list[str]:
    layers = {layer_of(name) for name in tower}
    encoder = sorted(layers - {"embeddings", "projection"}, key=lambda layer: int(layer.removeprefix("layer ")))
    return [layer for layer in ("embeddings", *encoder, "projection") if layer in layers]


def _cosine(product: float, squared: float, other_squared: float) -> float:
    return float(np.clip(_ratio(product, math.sqrt(squared) * math.sqrt(other_squared)), -1, 1))


def _ratio(value: float, of: float) -> float:
    return float(value / of) if of else math.nan
