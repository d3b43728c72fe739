"""An image tower at any point of a path, fast enough to follow a slider."""

from collections.abc import Callable, Mapping, Sequence
from threading import Lock
from typing import TypeAlias

import torch
from torch import Tensor, nn

from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span, Steps, WeightPath
from hf_paint.models.classifier import ClassifierOutput
from hf_paint.models.towers import ImageTower
from hf_paint.results.alphas import Alpha, Coefficients


Parameters: TypeAlias = Sequence[tuple[str, Tensor]]
Shares: TypeAlias = Callable[[Alpha], Sequence[float]]
"""For an alpha, the share of each model in theta_alpha; the shares sum to 1."""


class LiveTower:
    """An image tower that embeds pictures at any alpha.

    Writing all of theta_alpha takes as long as the forward pass of one picture, because both wait for memory. So the
    weights of each linear layer are computed just before the layer runs, into memory that all layers of that size
    share, and which therefore stays in the processor's cache. theta_alpha never exists as a whole.

    Args:
        tower: Image tower with the weights theta_0. Its parameters are replaced, so it must not be used elsewhere.
        path: Path that gives the weights for each alpha. Sequential patching (`Steps`) takes the number of steps as
            its alpha; between two whole numbers, the weights are interpolated between the models after these steps.

    Example:
        >>> from hf_paint.merging.path import Line
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: 1.5 * tensor for name, tensor in theta_0.items()}
        >>> live = LiveTower(image_tower(model), Line(theta_0, theta_1))
        >>> live.embed(torch.zeros(1, 3, 32, 32), 0.5).image_embeds.shape
        torch.Size([1, 24])
    """

    def __init__(self, tower: ImageTower, path: WeightPath) -> None:
        self.tower, self._mix, self._lock = tower.requires_grad_(False), _mixer(path), Lock()
        changed, scratch = _changed(path), _Scratch()
        self._alpha: Alpha = 0.0
        self._first: Parameters = []  # written before the forward pass, because nothing says where it reads them
        for prefix, module in tower.named_modules():
            named = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            own = {name: x for name, x in named if f"{prefix}.{name}".lstrip(".") in changed}
            is_plain = type(module) is nn.Linear  # subclasses may belong to a module that reads their weights itself
            for name, x in own.items():
                x.data = scratch.like(x, name) if is_plain else x.clone()
            written = [(f"{prefix}.{name}", x) for name, x in own.items()]
            if is_plain and written:
                module.register_forward_pre_hook(self._before(written))
            else:
                self._first = [*self._first, *written]

    @torch.inference_mode()
    def embed(self, pixel_values: Tensor, alpha: Alpha) -> ClassifierOutput:
        """Return un-normalised embeddings (batch, embed_dim) and, with a trained head, logits (batch, num_classes).

        Args:
            pixel_values: Pixels as the processor returns them, (batch, 3, height, width).
            alpha: Position on the path.
        """
        with self._lock:
            self._alpha = alpha
            self._write(self._first)
            output = self.tower(pixel_values=pixel_values)
        return ClassifierOutput(image_embeds=output.image_embeds, logits=getattr(output, "logits", None))

    def _before(self, parameters: Parameters) -> Callable[[nn.Module, object], None]:
        return lambda module, inputs: self._write(parameters)

    def _write(self, parameters: Parameters) -> None:
        for name, parameter in parameters:
            self._mix(name, self._alpha, parameter.data)


class _Scratch:
    """Memory that tensors with the same name and number of elements share."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, int], Tensor] = {}

    def like(self, tensor: Tensor, name: str) -> Tensor:
        """Return memory in this shape, which is overwritten when another tensor that shares it is written."""
        memory = self._memory.setdefault((name, tensor.numel()), torch.empty_like(tensor).flatten())
        return memory.view(tensor.shape)


def _changed(path: WeightPath) -> set[str]:
    """Return the names of the tensors that differ between the models of a path."""
    theta_0, *others = _models(path)
    return {name for name, x_0 in theta_0.items() if any(not torch.equal(x_0, theta[name]) for theta in others)}


def _models(path: WeightPath) -> Sequence[Weights]:
    return path.inputs if isinstance(path, Span | Steps) else (path.theta_0, *path.ends)


def _mixer(path: WeightPath) -> Callable[[str, Alpha, Tensor], None]:
    """Return a function that writes one tensor of theta_alpha into memory."""
    if not isinstance(path, Span | Steps):
        return lambda name, alpha, into: _copy(path.tensor(name, alpha), into)
    shares = _steps(len(path.inputs)) if isinstance(path, Steps) else _span(path.models)
    return lambda name, alpha, into: _mix([theta[name] for theta in path.inputs], shares(alpha), into)


def _copy(tensor: Tensor, into: Tensor) -> None:
    into.copy_(tensor)


def _mix(tensors: Sequence[Tensor], shares: Sequence[float], into: Tensor) -> None:
    """Write `sum_i share_i * x_i` into memory; a share of 1 gives the tensor itself, bit for bit."""
    parts = [(x, share) for x, share in zip(tensors, shares, strict=True) if share]
    (first, share), *others = parts
    if len(parts) == 2 and first is tensors[0]:  # one pass over memory instead of two
        torch.lerp(first, *others[0], out=into)
        return
    torch.mul(first, share, out=into)
    for x, share in others:
        into.add_(x, alpha=share)


def _span(models: Sequence[str]) -> Shares:
    """Return the shares of theta_0 and the theta_i in `theta_0 + sum_i alpha_i (theta_i - theta_0)`."""

    def shares(alpha: Alpha) -> Sequence[float]:
        coefficients = alpha if isinstance(alpha, Coefficients) else dict.fromkeys(models, alpha)
        values = [coefficients.get(model, 0.0) for model in models]
        return [1 - sum(values), *values]

    return shares


def _steps(number: int) -> Shares:
    """Return the shares of the models after each step, of which only two neighbours differ from 0."""

    def shares(alpha: Alpha) -> Sequence[float]:
        position = 0.0 if isinstance(alpha, Mapping) else alpha
        return [max(0.0, 1 - abs(position - step)) for step in range(number)]

    return shares
