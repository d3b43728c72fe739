"""An image tower at any point of a path, fast enough to follow a slider."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache, partial
from timeit import repeat
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span, Steps, WeightPath
from hf_paint.models.classifier import ClassifierOutput
from hf_paint.models.towers import ImageTower
from hf_paint.report.turns import Interrupted, Turns
from hf_paint.results.alphas import Alpha, Coefficients


Mixer: TypeAlias = Callable[[str, Alpha, Tensor], None]
Shares: TypeAlias = Callable[[Alpha], Sequence[float]]
"""For an alpha, the share of each model in theta_alpha; the shares sum to 1."""


@cache
def multiplies_faster(dtype: torch.dtype, *, times: float = 2.0) -> bool:
    """Return whether this machine multiplies matrices of a ViT-B `times` faster than in float32, measured once."""
    x, weight = torch.ones(50, 768), torch.ones(3072, 768)
    kinds = (torch.float32, dtype)
    plain, other = (min(repeat(partial(F.linear, x.to(kind), weight.to(kind)), number=1)) for kind in kinds)
    return other < plain / times


class LiveTower:
    """An image tower that embeds pictures at any alpha.

    Writing all of theta_alpha takes as long as the forward pass of one picture, because both wait for memory. So the
    weights of each linear layer are computed just before the layer runs, into memory that all layers of that size
    share, and which therefore stays in the processor's cache. theta_alpha never exists as a whole.

    A rough answer computes the linear layers, and interpolates their weights, in bfloat16: half the memory is read,
    and processors with matrix instructions for bfloat16 multiply faster. All other answers are in float32.

    Args:
        tower: Image tower with the weights theta_0, in float32. Its parameters are replaced, so it must not be used
            elsewhere.
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
        self.tower: ImageTower = tower.requires_grad_(False)
        self._turns = Turns()
        self._mix, self._mix_roughly = _mixer(path), _rough_mixer(path)
        changed, self._scratch = _changed(path), _Scratch()
        self._alpha: Alpha = 0.0
        self._rough = False
        self._first: list[tuple[str, Tensor]] = []  # written before the pass: nothing says where it reads them
        for prefix, module in tower.named_modules():
            named = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
            own = [(f"{prefix}.{name}".lstrip("."), name, x) for name, x in named]
            own = [(full, name, x) for full, name, x in own if full in changed]
            if own and type(module) is nn.Linear:  # subclasses may belong to a module that reads their weights itself
                module.register_forward_pre_hook(self._before(own))
                continue
            for full, _, x in own:
                x.data = x.clone()
                self._first.append((full, x))

    @torch.inference_mode()
    def embed(self, pixel_values: Tensor, alpha: Alpha, *, rough: bool = False) -> ClassifierOutput:
        """Return un-normalised embeddings (batch, embed_dim) and, with a trained head, logits (batch, num_classes).

        Of two threads that wait, the one with the rough answer is first; it also interrupts an exact answer, which
        then starts again.

        Args:
            pixel_values: Pixels as the processor returns them, (batch, 3, height, width).
            alpha: Position on the path.
            rough: Compute the linear layers in bfloat16.
        """
        while True:
            with suppress(Interrupted):
                return self._embed(pixel_values, alpha, rough=rough)

    def _embed(self, pixel_values: Tensor, alpha: Alpha, *, rough: bool) -> ClassifierOutput:
        with self._turns.one(urgent=rough), torch.autocast("cpu", torch.bfloat16, enabled=rough):
            self._alpha, self._rough = alpha, rough
            for name, parameter in self._first:
                self._mix(name, alpha, parameter.data)
            output = self.tower(pixel_values=pixel_values)
        logits: Tensor | None = getattr(output, "logits", None)
        return ClassifierOutput(
            image_embeds=output.image_embeds.float(), logits=None if logits is None else logits.float()
        )

    def _before(self, own: Sequence[tuple[str, str, Tensor]]) -> Callable[[nn.Module, object], None]:
        exact = [(full, x, self._scratch.like(x, name, x.dtype)) for full, name, x in own]
        rough = [(full, x, self._scratch.like(x, name, torch.bfloat16)) for full, name, x in own]

        def write(module: nn.Module, inputs: object) -> None:
            self._turns.check()
            mix = self._mix_roughly if self._rough else self._mix
            for full, parameter, into in rough if self._rough else exact:
                parameter.data = into
                mix(full, self._alpha, into)

        return write


class _Scratch:
    """Memory that tensors with the same name, dtype and number of elements share."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, torch.dtype, int], Tensor] = {}

    def like(self, tensor: Tensor, name: str, dtype: torch.dtype) -> Tensor:
        """Return memory in this shape, which is overwritten when another tensor that shares it is written."""
        new = torch.empty(tensor.numel(), dtype=dtype)
        return self._memory.setdefault((name, dtype, tensor.numel()), new).view(tensor.shape)


def _changed(path: WeightPath) -> set[str]:
    """Return the names of the tensors that differ between the models of a path."""
    theta_0, *others = _models(path)
    return {name for name, x_0 in theta_0.items() if any(not torch.equal(x_0, theta[name]) for theta in others)}


def _models(path: WeightPath) -> Sequence[Weights]:
    return path.inputs if isinstance(path, Span | Steps) else (path.theta_0, *path.ends)


def _mixer(path: WeightPath) -> Mixer:
    """Return a function that writes one tensor of theta_alpha into memory."""
    if not isinstance(path, Span | Steps):
        return lambda name, alpha, into: _copy(path.tensor(name, alpha), into)
    shares = _shares(path)
    return lambda name, alpha, into: _mix([theta[name] for theta in path.inputs], shares(alpha), into)


def _rough_mixer(path: WeightPath) -> Mixer:
    """Return a function that interpolates copies of the models in bfloat16, each made when it is first needed."""
    if not isinstance(path, Span | Steps):
        return _mixer(path)
    shares = _shares(path)
    copies = cache(lambda name: [theta[name].bfloat16() for theta in path.inputs])
    return lambda name, alpha, into: _mix(copies(name), shares(alpha), into)


def _shares(path: Span | Steps) -> Shares:
    return _steps(len(path.inputs)) if isinstance(path, Steps) else _span(path.models)


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
