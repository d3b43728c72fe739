"""The penalties of a training, computed from the model that it started from."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from hf_paint.errors import InputError
from hf_paint.training.regularization import l2_sp, ldifs


NUM_DEPTHS = 5
"""At how many depths LDIFS compares features, as in the code released with the paper."""


class Regularizer:
    """The penalties of a training, and the original model that they compare with.

    The original is a copy of the model that is on the same device and in the same precision, does not get gradients
    and is always in evaluation mode. With an adapter, no copy is made: without its adapter, the model is the original.

    Args:
        model: Image tower as it is before training, perhaps with a head or an adapter.
        weights: Penalty -> weight, above 0.

    Raises:
        InputError: If `ldifs` finds no blocks in the image tower.
    """

    def __init__(self, model: nn.Module, weights: Mapping[str, float]) -> None:
        self.model = model
        self.weights: Mapping[str, float] = weights
        self.adapter: nn.Module | None = model if hasattr(model, "peft_config") else None
        self.original: nn.Module = model if self.adapter else deepcopy(model).eval().requires_grad_(False)
        self.start: list[nn.Parameter] = [] if self.adapter else list(self.original.parameters())
        self.features: Features = Features(model)
        self.original_features: Features = self.features if self.adapter else Features(self.original)
        if "ldifs" in weights and not self.features.blocks:
            raise InputError("`ldifs` compares features between blocks, and this image tower has none. Remove it.")

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Let the features of both models be recorded inside the block."""
        with ExitStack() as stack:
            if "ldifs" in self.weights:
                for features in {self.features, self.original_features}:
                    stack.enter_context(features.hooked())
            yield

    def penalties(
        self, features: Sequence[Tensor], pixel_values: Tensor, autocast: AbstractContextManager[None]
    ) -> dict[str, Tensor]:
        """Return penalty -> its part of the loss, shape ().

        Args:
            features: Features of the model at each depth, for the images of a batch.
            pixel_values: Normalised pixels of these images, (batch, 3, height, width).
            autocast: Context that computes in the precision of the training.
        """
        found = {}
        if "ldifs" in self.weights:
            with autocast:
                original = self._features_of_original(pixel_values)
            found["ldifs"] = self.weights["ldifs"] * ldifs(features, original)
        if "l2_sp" in self.weights:
            found["l2_sp"] = self.weights["l2_sp"] * l2_sp(list(self.model.parameters()), self.start)
        return found

    @torch.no_grad()
    def _features_of_original(self, pixel_values: Tensor) -> list[Tensor]:
        training = self.original.training
        self.original.eval()
        try:
            with self._without_adapter(), self.original_features.recording() as found:
                self.original(pixel_values=pixel_values)
        finally:
            self.original.train(training)
        return found

    @contextmanager
    def _without_adapter(self) -> Iterator[None]:
        disable = getattr(self.adapter, "disable_adapter", None)
        if disable is None:
            yield
        else:
            with disable():
                yield


class Features:
    """Records what enters the first block of an image tower, and what leaves those after each quarter of its depth.

    With twelve blocks, these are the embeddings after the first layer norm and the outputs of blocks 3, 6, 9 and 12,
    as in the code released with LDIFS. With fewer than four, it is the output of every block.

    Attributes:
        blocks: Blocks of the image tower: its longest list of modules.
    """

    def __init__(self, tower: nn.Module) -> None:
        lists = [module for module in tower.modules() if isinstance(module, nn.ModuleList)]
        self.blocks: list[nn.Module] = list(max(lists, key=len, default=()))
        self._found: list[Tensor] | None = None

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """Let features be recorded inside the block."""
        last = NUM_DEPTHS - 1
        # not part of the graph of a compiled block, so that blocks with and without a hook share it
        record: Callable[[Tensor | tuple[Tensor, ...]], None] = torch.compiler.disable(self._record)
        depths = {math.ceil(len(self.blocks) * quarter / last) for quarter in range(1, NUM_DEPTHS)}
        handles = [self.blocks[0].register_forward_pre_hook(lambda _, given: record(given))]
        handles += [
            self.blocks[depth - 1].register_forward_hook(lambda *given: record(given[-1])) for depth in sorted(depths)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def recording(self) -> Iterator[list[Tensor]]:
        """Yield a list that gets the features of the next pass, one tensor per depth."""
        self._found = []
        try:
            yield self._found
        finally:
            self._found = None

    def _record(self, value: Tensor | tuple[Tensor, ...]) -> None:
        if self._found is not None:
            self._found.append(value if isinstance(value, Tensor) else value[0])
