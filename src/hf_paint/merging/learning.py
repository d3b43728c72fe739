"""What merges with learned coefficients share: the mixture of the models, its training, and the options."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import AnySplit, ImageSplit, Measurements, Several
from hf_paint.merging.interpolation import Weights, combine_tensor, subtract
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, checked
from hf_paint.weights.layers import layer_of


ALL_TENSORS = "all tensors"
"""Name of the only group of tensors, if not every layer is a group."""


@dataclass(frozen=True, slots=True, eq=False)
class LearnedMerge:
    """Weights that were merged with learned coefficients.

    Attributes:
        theta: Merged weights, name -> tensor.
        coefficients: Group of tensors -> model -> coefficient.
    """

    theta: dict[str, Tensor]
    coefficients: dict[Hashable, dict[str, float]]


class Mixture:
    """Weighted sums `theta_0 + sum_i a_i (theta_i - theta_0)` with different coefficients for each group of tensors.

    All models are held in memory, and tensors that differ between models are held twice.

    Args:
        theta_0: Weights that task vectors start from, name -> tensor.
        thetas: Model -> weights, with the same names, shapes and dtypes.
        group: Called as `group(name)`; returns the group of a tensor.

    Attributes:
        groups: Groups of the tensors that differ between models, or all groups if none differs.

    Raises:
        InputError: If the weights are not compatible, an integer tensor differs, or a tensor contains inf or NaN.
    """

    def __init__(self, theta_0: Weights, thetas: Mapping[str, Weights], group: Callable[[str], Hashable]) -> None:
        for model, theta in thetas.items():
            check_compatible(theta_0, theta, model)
        self._base, self._thetas = dict(checked(theta_0, "theta_0")), all_finite(thetas)
        self._taus: dict[str, Tensor] = {}
        for name, x_0 in self._base.items():
            taus = [subtract(name, x_0, theta[name]) for theta in self._thetas.values()]
            if any(bool(tau.any()) for tau in taus):
                self._taus[name] = torch.stack(taus)
        self._group_of = {name: group(name) for name in self._base}
        self.groups: list[Hashable] = list(dict.fromkeys(self._group_of[name] for name in self._taus or self._base))

    def learn(
        self,
        loss: Callable[[Weights], Tensor],
        start: Tensor,
        weigh: Callable[[Tensor], Tensor],
        *,
        steps: int,
        learning_rate: float,
        parameters: Iterable[Tensor] = (),
    ) -> dict[Hashable, Tensor]:
        """Train the parameters that coefficients are computed from by Adam.

        Args:
            loss: Called as `loss(theta)` once per step; returns a differentiable scalar.
            start: Initial parameters of each group.
            weigh: Called as `weigh(parameters)`; returns the coefficients of a group, shape (num_models,).
            steps: Number of optimisation steps. There are none if all models are equal.
            learning_rate: Learning rate for Adam.
            parameters: Other tensors to train at the same time, which `loss` reads.

        Returns:
            Group -> trained parameters.
        """
        device = next(iter(self._base.values())).device
        free = {group: start.to(device, copy=True).requires_grad_() for group in self.groups}
        optimizer = torch.optim.Adam([*free.values(), *parameters], lr=learning_rate)
        for _ in tqdm(range(steps if self._taus else 0), "Learning coefficients", unit="step", leave=False, delay=1):
            optimizer.zero_grad()
            coefficients = {group: weigh(x) for group, x in free.items()}
            loss(self._base | {name: self._mix(name, coefficients) for name in self._taus}).backward()
            optimizer.step()
        return {group: x.detach() for group, x in free.items()}

    def at(self, coefficients: Mapping[Hashable, Sequence[float]]) -> dict[str, Tensor]:
        """Return the weights at the coefficients of each group, in the dtypes of theta_0 and as exact as `combine`."""
        nothing, merged = [0.0] * len(self._thetas), {}
        for name, x_0 in self._base.items():
            values = coefficients.get(self._group_of[name], nothing)
            parts = [(theta[name], value) for theta, value in zip(self._thetas.values(), values, strict=True)]
            merged[name] = combine_tensor(name, x_0, parts, [*self._thetas])
        return merged

    def _mix(self, name: str, coefficients: Mapping[Hashable, Tensor]) -> Tensor:
        """Return one tensor of the mixture, differentiable with respect to the coefficients."""
        x_0, taus = self._base[name].detach(), self._taus[name]  # taus: (num_models, *shape)
        moved = torch.tensordot(coefficients[self._group_of[name]].to(taus.dtype), taus, dims=1)
        mixed: Tensor = x_0.to(taus.dtype) + moved
        return mixed.to(x_0.dtype)


@dataclass(frozen=True, kw_only=True)
class Learned(Several):
    """A merge whose coefficients are learned on images of the patching tasks.

    Attributes:
        splits: Splits that the images may be drawn from.
        steps: Number of optimisation steps.
        learning_rate: Learning rate for Adam.
        by_layer: Whether every layer has its own coefficients.
        images: Split that the images are drawn from.
    """

    splits: ClassVar[Sequence[str]] = get_args(ImageSplit)
    steps: int
    learning_rate: float
    by_layer: bool = False
    images: AnySplit = "validation"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0:
            raise InputError(
                f"The method '{self.name}' needs `steps` of at least 1 and a `learning_rate` above 0, got "
                f"{self.steps} and {self.learning_rate}."
            )
        if self.images not in self.splits:
            *others, last = self.splits
            raise InputError(
                f"`images` of the method '{self.name}' must be {', '.join(others)} or {last}, got {self.images!r}."
                f"{did_you_mean(self.images, self.splits)}"
            )

    @property
    def needs_validation(self) -> bool:
        """Whether the coefficients are learned on validation images."""
        return self.images == "validation"

    @property
    def needs_train(self) -> bool:
        """Whether the coefficients are learned on training images."""
        return self.images == "train"

    @property
    def needs_test(self) -> bool:
        """Whether the coefficients are learned on test images."""
        return self.images == "test"

    @property
    def scope(self) -> str:
        """What has its own coefficient, for the model card."""
        return "one per layer and model" if self.by_layer else "one per model"

    @property
    def drawn_from(self) -> str:
        """What the images are, for the model card."""
        return {"validation": "the validation images", "train": "training images"}.get(
            self.images, "the test images, so the test accuracies on this card are not those of unseen images"
        )

    def group(self, name: str) -> str:
        """Return the name of the group of a tensor."""
        return layer_of(name) if self.by_layer else ALL_TENSORS

    def recorded(self, merged: LearnedMerge, measurements: Measurements) -> dict[str, Tensor]:
        """Save the coefficients with the run, and return the merged weights."""
        measurements.record({str(group): values for group, values in merged.coefficients.items()})
        return merged.theta


def on_device(theta: Weights, device: torch.device) -> dict[str, Tensor]:
    """Return weights whose tensors are all on a device."""
    return {name: x.to(device) for name, x in theta.items()}
