"""Paths from theta_0 to theta_1, which give the weights theta_alpha for any alpha."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_combination, fingerprint_weights
from hf_paint.merging.interpolation import Weights, combine_plain, combine_tensor, plain_tensors
from hf_paint.models.stored import StoredTower
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import finite


AT_ONCE = 64
"""Number of tensors that are computed at once on a GPU: some 300 MB of a ViT-L/14."""


class WeightPath(ABC):
    """Base class for paths that map an alpha to weights theta_alpha. Alpha 0 gives theta_0.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        others: Other weights needed to compute theta_alpha, those of the fine-tuned models first.

    Attributes:
        models: Names of the fine-tuned models.
    """

    models: tuple[str, ...] = ("theta_1",)

    def __init__(self, theta_0: Weights, *others: Weights) -> None:
        self.inputs: tuple[Weights, ...] = (theta_0, *others)

    @property
    def theta_0(self) -> Weights:
        """Weights before fine-tuning."""
        return self.inputs[0]

    @property
    def ends(self) -> Sequence[Weights]:
        """Weights of the fine-tuned models."""
        return self.inputs[1:]

    @property
    def nbytes(self) -> int:
        """Total size in bytes of the weights needed to compute theta_alpha."""
        return sum(map(_num_bytes, self.inputs))

    @abstractmethod
    def tensor(self, name: str, alpha: Alpha, device: torch.device | None = None) -> Tensor:
        """Compute one tensor of theta_alpha, on `device` if given."""

    @abstractmethod
    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of theta_alpha without computing theta_alpha."""

    def at(self, alpha: Alpha) -> dict[str, Tensor]:
        """Return theta_alpha as name -> tensor. No tensor shares storage with an input."""
        return {name: self.tensor(name, alpha) for name in self.theta_0}

    @torch.no_grad()
    def write(self, alpha: Alpha, into: Mapping[str, Tensor]) -> None:
        """Write theta_alpha into existing tensors, one at a time, so that models larger than memory can be used.

        Args:
            alpha: Position on the path.
            into: name -> tensor, e.g. the `state_dict()` of a model. Tensors not in theta_0 are left unchanged.

        Raises:
            InputError: If a tensor is missing, or an integer tensor differs.
        """
        missing = sorted(self.theta_0.keys() - into.keys())
        if missing:
            raise InputError(
                f"The model has no tensor '{missing[0]}' ({len(missing)} of {len(self.theta_0)} are missing)."
            )
        self._write(alpha, {name: target for name, target in into.items() if name in self.theta_0})

    def _write(self, alpha: Alpha, into: Mapping[str, Tensor]) -> None:
        for name, target in into.items():
            target.copy_(self.tensor(name, alpha, target.device))

    def to(self, device: torch.device) -> Self:
        """Return a copy of the path with all its weights moved to `device`."""
        moved = copy(self)
        moved.inputs = tuple({name: x.to(device) for name, x in weights.items()} for weights in self.inputs)
        return moved

    @cached_property
    def fingerprints(self) -> tuple[str, ...]:
        """Fingerprints of theta_0 and of the other weights."""
        return tuple(w.fingerprint if isinstance(w, StoredTower) else fingerprint_weights(w) for w in self.inputs)


def _num_bytes(weights: Weights) -> int:
    """Return the size of weights in bytes, without reading any weights from disk."""
    size: int | None = getattr(weights, "nbytes", None)
    return sum(tensor.nbytes for tensor in weights.values()) if size is None else size


class Span(WeightPath):
    """Linear combinations `theta_0 + sum_i alpha_i (theta_i - theta_0)` (PAINT, Section 5).

    If alpha is a number, it is used as the coefficient of every model. Models without a coefficient are ignored.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes. Tensors are read on demand.

    Raises:
        InputError: If the weights are not compatible.

    Example:
        >>> span = Span({"w": torch.zeros(1)}, {"mnist": {"w": torch.ones(1)}, "cars": {"w": torch.ones(1)}})
        >>> span.at(0.25), span.at(Coefficients({"cars": 0.25}))
        ({'w': tensor([0.5000])}, {'w': tensor([0.2500])})
    """

    def __init__(self, theta_0: Weights, thetas: Mapping[str, Weights]) -> None:
        super().__init__(theta_0, *thetas.values())
        self.models: tuple[str, ...] = tuple(thetas)
        self._at_once: tuple[str, ...] = ()
        for model, theta in thetas.items():
            check_compatible(theta_0, theta, model)

    def tensor(self, name: str, alpha: Alpha, device: torch.device | None = None) -> Tensor:
        """Compute one tensor of theta_alpha."""
        coefficients = self._coefficients(alpha).values()
        named = zip(self.models, self.ends, coefficients, strict=True)
        parts = [(model, theta, value) for model, theta, value in named if value]
        x_0 = self.theta_0[name].to(device=device)
        return combine_tensor(
            name,
            x_0,
            [(theta[name].to(device=device), value) for _, theta, value in parts],
            [model for model, _, _ in parts],
        )

    def to(self, device: torch.device) -> Self:
        """Return a copy of the path with all its weights moved to `device`, where many tensors are written at once."""
        moved = super().to(device)
        moved._at_once = tuple(plain_tensors(moved.theta_0))
        for model, theta in zip(moved.models, moved.ends, strict=True):
            for name in {*moved._at_once} - {*plain_tensors({name: theta[name] for name in moved._at_once})}:
                finite(name, theta[name], model)
        return moved

    def _write(self, alpha: Alpha, into: Mapping[str, Tensor]) -> None:
        coefficients = [*self._coefficients(alpha).values()]
        at_once = [name for name in self._at_once if name in into]
        for first in range(0, len(at_once), AT_ONCE):
            names = at_once[first : first + AT_ONCE]
            thetas = [[theta[name] for name in names] for theta in self.inputs]
            parts = [*zip(thetas[1:], coefficients, strict=True)]
            combine_plain(thetas[0], parts, [into[name] for name in names])
        super()._write(alpha, {name: target for name, target in into.items() if name not in self._at_once})

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of theta_alpha without computing theta_alpha."""
        theta_0, *thetas = self.fingerprints
        return fingerprint_combination(theta_0, dict(zip(self.models, thetas, strict=True)), self._coefficients(alpha))

    def _coefficients(self, alpha: Alpha) -> dict[str, float]:
        if isinstance(alpha, Coefficients):
            return {model: alpha.get(model, 0.0) for model in self.models}
        return dict.fromkeys(self.models, alpha)


class Line(Span):
    """Straight line from theta_0 to theta_1 (PAINT, Section 2; WiSE-FT, Section 3).

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning, with the same names, shapes and dtypes.

    Raises:
        InputError: If the weights are not compatible.

    Example:
        >>> Line({"w": torch.zeros(2)}, {"w": torch.ones(2)}).at(0.25)
        {'w': tensor([0.2500, 0.2500])}
    """

    def __init__(self, theta_0: Weights, theta_1: Weights) -> None:
        super().__init__(theta_0, {"theta_1": theta_1})


class Steps(WeightPath):
    """Models after each step of sequential patching, starting from theta_0 (PAINT, Section 5).

    An alpha lists the coefficients of the steps so far and stands for the model after the last of these steps.

    Args:
        theta_0: Weights before the first step, name -> tensor.
        thetas: Step -> weights after this step.

    Example:
        >>> steps = Steps({"w": torch.zeros(1)}, {"mnist": {"w": torch.ones(1)}, "cars": {"w": torch.tensor([3.0])}})
        >>> steps.at(Coefficients({"mnist": 0.5})), steps.at(Coefficients({"mnist": 0.5, "cars": 0.2}))
        ({'w': tensor([1.])}, {'w': tensor([3.])})
    """

    def __init__(self, theta_0: Weights, thetas: Mapping[str, Weights]) -> None:
        super().__init__(theta_0, *thetas.values())
        self.models: tuple[str, ...] = tuple(thetas)

    @property
    def ends(self) -> Sequence[Weights]:
        """Weights after the last step."""
        return self.inputs[-1:]

    def tensor(self, name: str, alpha: Alpha, device: torch.device | None = None) -> Tensor:
        """Return one tensor of the model after a step."""
        return self.inputs[self._position(alpha)][name].detach().to(device=device, copy=True)

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of the model after a step."""
        return self.fingerprints[self._position(alpha)]

    def to(self, device: torch.device) -> Self:
        """Return the path unchanged: each model is read about once, so there is nothing to gain from moving them."""
        return self

    def _position(self, alpha: Alpha) -> int:
        """Return the number of the step, 0 for theta_0."""
        if isinstance(alpha, Coefficients):
            return 1 + self.models.index([*alpha][-1])
        if alpha:
            raise InputError(
                f"Pass the coefficients of all steps up to the requested one, as `Coefficients`; got alpha {alpha}."
            )
        return 0
