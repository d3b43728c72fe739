"""The inputs of the layers of an image tower, measured on images without labels."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from hf_paint.errors import InputError
from hf_paint.models.devices import to_float64
from hf_paint.models.patch_embedding import PatchEmbedding, split_into_patches
from hf_paint.models.towers import ImageTower


@torch.no_grad()
def collect_grams(tower: ImageTower, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Measure how the inputs of each layer of an image tower are correlated, for `regmean`.

    The layers are those with a matrix of weights: all linear layers, and the patch convolution, whose inputs are the
    pixels of the patches. Only layers that the tower calls as modules are measured; the pooling attention of SigLIP,
    whose weights torch reads directly, is left out.

    Args:
        tower: Image tower with the weights of one fine-tuned model. It is left unchanged.
        batches: Batches of normalised pixels of this model's task, with shape (batch, 3, height, width); they need
            no labels. The batch size does not affect the result.

    Returns:
        Name of a weight -> `X.T @ X / num_rows`, where a row of X is the input of the layer for one token or patch:
        shape (num_inputs, num_inputs), in float64. Layers with the same input, such as the queries, keys and values
        of attention, share one tensor.

    Raises:
        InputError: If there are no images, or if an input is not finite.

    Example:
        >>> grams = collect_grams(image_tower(model), [torch.randn(4, 3, 32, 32)])
        >>> grams["visual_projection.weight"].shape
        torch.Size([48, 48])
    """
    inputs = _Sums()
    with _watched(tower, inputs):
        for batch in batches:
            tower(pixel_values=batch)
    if not inputs.sums:
        raise InputError("Measuring the inputs of layers requires at least one image, got none.")
    return inputs.means()


@torch.no_grad()
def num_gram_entries(tower: ImageTower, pixels: Tensor) -> int:
    """Return how many numbers the Gram matrices of `collect_grams` hold, without computing them.

    Args:
        tower: Image tower.
        pixels: Any normalised pixels, with shape (batch, 3, height, width).
    """
    inputs = _Sizes()
    with _watched(tower, inputs):
        tower(pixel_values=pixels)
    return sum(size**2 for size in inputs.sizes.values())


@contextmanager
def _watched(tower: ImageTower, inputs: "_Inputs") -> Iterator[None]:
    """Pass the inputs of each layer to `inputs` inside the block, with the tower in evaluation mode."""
    was_training = tower.training
    with ExitStack() as hooks:
        for name, layer in tower.named_modules():
            if isinstance(layer, (nn.Linear, PatchEmbedding)):
                handle = layer.register_forward_pre_hook(partial(inputs.watch, f"{name}.weight"))
                hooks.callback(handle.remove)
        hooks.callback(tower.train, was_training)
        tower.train(False)
        yield


class _Inputs(ABC):
    """Inputs of layers; the one that the layer before got too is taken only once."""

    def __init__(self) -> None:
        self._same_as: dict[str, str] = {}
        self._last: tuple[str, Tensor] | None = None

    def watch(self, name: str, layer: nn.Linear | PatchEmbedding, inputs: tuple[Tensor, ...]) -> None:
        """Take an input of a layer, unless it has been taken."""
        (x,) = inputs
        if self._last is not None and x is self._last[1]:
            self._same_as[name] = self._last[0]
            return
        self._last = name, x
        self.add(name, layer, x)

    @abstractmethod
    def add(self, name: str, layer: nn.Linear | PatchEmbedding, x: Tensor) -> None:
        """Add an input of a layer."""


class _Sizes(_Inputs):
    """Name of a weight -> number of inputs of its layer."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}

    def add(self, name: str, layer: nn.Linear | PatchEmbedding, x: Tensor) -> None:
        """Add the number of inputs of a layer."""
        self.sizes[name] = layer.weight[0].numel()


class _Sums(_Inputs):
    """Sums of `X.T @ X` over the inputs of layers, in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: dict[str, Tensor] = {}
        self._num_rows: dict[str, int] = {}

    def add(self, name: str, layer: nn.Linear | PatchEmbedding, x: Tensor) -> None:
        """Add an input of a layer to its sum."""
        if isinstance(layer, PatchEmbedding):
            x = split_into_patches(x, layer.weight.shape[2:])
        rows = to_float64(x).flatten(0, -2)  # (num_rows, num_inputs)
        if name not in self.sums:
            self.sums[name], self._num_rows[name] = rows.new_zeros(rows.shape[1], rows.shape[1]), 0
        self.sums[name].addmm_(rows.T, rows)
        self._num_rows[name] += len(rows)

    def means(self) -> dict[str, Tensor]:
        """Return weight -> mean over all rows."""
        for name, total in self.sums.items():
            if not bool(total.div_(self._num_rows[name]).isfinite().all()):
                raise InputError(f"The inputs of '{name}' are not finite. Check the weights and the pixels.")
        return self.sums | {name: self.sums[other] for name, other in self._same_as.items()}
