"""Measure how fine-tuning changed each layer: norms and cosine similarities, streamed from safetensors."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypedDict

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.headers import FLOATS, read_checkpoint
from hf_paint.weights.layers import IMAGE_TOWER, layer_of
from hf_paint.weights.streaming import Tensors, read_together


ALL = "all"
"""Key for all tensors together, used alongside the keys for their layers."""
OUTER = ("embeddings", "projection", "head")
"""Layers before and after those of the encoder."""


class StoredChanges(TypedDict):
    """Contents of `changes.json`; see `WeightChanges`."""

    models: list[str]
    products: dict[str, list[list[float]]]


@dataclass(frozen=True, slots=True, eq=False)
class WeightChanges:
    """Distance and direction of fine-tuned models relative to their base (PAINT, scale analysis).

    Undefined values, e.g. the cosine similarity for an unchanged layer, are NaN.

    Attributes:
        models: Names of the fine-tuned models.
        products: Layer -> matrix of inner products, float64, shape (1 + num_models, 1 + num_models). The first row is
            theta_0; the others are the changes `theta_i - theta_0`, in the order of `models`. The first key is `all`,
            followed by the layers in order.
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
        """Return the cosine similarity of theta_0 and theta_1. Larger models change less, so it is higher for them."""
        products, index = self.products[layer], self._index(model)
        squared_0, along, squared_change = products[0, 0], products[0, index], products[index, index]
        squared_1 = squared_0 + 2 * along + squared_change
        return _cosine(squared_0 + along, squared_0, squared_1)

    def cosine(self, model: str, other: str, layer: str = ALL) -> float:
        """Return the cosine similarity of the changes in two models. If it is near 0, they do not interfere."""
        products, i, j = self.products[layer], self._index(model), self._index(other)
        return _cosine(products[i, j], products[i, i], products[j, j])

    def to_dict(self) -> dict[str, object]:
        """Return the changes as plain values, as stored in `changes.json`."""
        return {"models": list(self.models), "products": {name: x.tolist() for name, x in self.products.items()}}

    @classmethod
    def from_dict(cls, values: StoredChanges) -> Self:
        """Create changes from values returned by `to_dict`.

        Raises:
            InputError: If a matrix does not have a row and a column for theta_0 and each model, or `all` is missing.
        """
        size = 1 + len(values["models"])
        if ALL not in values["products"] or any(
            len(x) != size or any(len(row) != size for row in x) for x in values["products"].values()
        ):
            raise InputError(
                f"The products of {size - 1} models must be matrices of size {size}, one of them `{ALL}`."
            )
        return cls(tuple(values["models"]), {name: np.array(x) for name, x in values["products"].items()})

    def _index(self, model: str) -> int:
        return 1 + self.models.index(model)


def measure_weight_changes(folder_0: str | Path, folders: Mapping[str, str | Path]) -> WeightChanges:
    """Compare the image towers of fine-tuned models with the image tower of their base model.

    Each file is read once, a few megabytes at a time, and all sums are computed in float64.

    Args:
        folder_0: Folder of the model before fine-tuning, with one or more safetensors files.
        folders: Model -> folder of the model after fine-tuning.

    Raises:
        InputError: If a folder does not contain a CLIP model in safetensors, or the image towers are not compatible.

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
    chunks = ((name, values) for name in theta_0 for values in read_together([tower[name] for tower in towers]))
    return sum_changes(folders, theta_0, chunks)


def sum_changes(
    models: Iterable[str], names: Iterable[str], chunks: Iterable[tuple[str, NDArray[np.float64]]]
) -> WeightChanges:
    """Sum the products of weights and changes by layer.

    Args:
        models: Names of the fine-tuned models.
        names: Names of the tensors.
        chunks: (tensor, a part of it in theta_0 and in each model), float64, shape (1 + num_models, part). The parts
            are overwritten.
    """
    models = tuple(models)
    products = {layer: np.zeros((1 + len(models), 1 + len(models))) for layer in _in_order(names)}
    for name, values in chunks:
        values[1:] -= values[0]
        products[layer_of(name)] += values @ values.T
    return WeightChanges(models, {ALL: sum(products.values(), np.zeros(()))} | products)


def _image_tower(folder: str | Path) -> Tensors:
    """Return the floating-point tensors of the image tower, which leaves out the position ids in older files."""
    tensors = read_checkpoint(folder).tensors.items()
    tower = {n: t for n, t in tensors if n.startswith(IMAGE_TOWER) and t.dtype in FLOATS}
    if not tower:
        raise InputError(f"'{folder}' contains no image tower: none of its tensor names starts with `vision_model.`.")
    return tower


def _in_order(names: Iterable[str]) -> list[str]:
    layers = {layer_of(name) for name in names}
    encoder = sorted(layers - {*OUTER}, key=lambda layer: int(layer.removeprefix("layer ")))
    return [layer for layer in (OUTER[0], *encoder, *OUTER[1:]) if layer in layers]


def _cosine(product: float, squared: float, other_squared: float) -> float:
    return float(np.clip(_ratio(product, math.sqrt(squared) * math.sqrt(other_squared)), -1, 1))


def _ratio(value: float, of: float) -> float:
    return float(value / of) if of else math.nan
