"""AdaMerging: coefficients learned by making predictions on unlabelled images certain (Yang et al., ICLR 2024)."""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import AnySplit, Measured, Measurements, Several
from hf_paint.merging.interpolation import Weights, combine_tensor, subtract
from hf_paint.merging.learned_soups import mix
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, checked
from hf_paint.weights.layers import layer_index


@dataclass(frozen=True, slots=True, eq=False)
class AdaMergingResult:
    """Result of `adamerging`.

    Attributes:
        theta: Merged weights, name -> tensor.
        coefficients: Group of tensors -> model -> coefficient, in [0, 1].
    """

    theta: dict[str, Tensor]
    coefficients: dict[Hashable, dict[str, float]]


def adamerging(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    loss: Callable[[Weights], Tensor],
    *,
    steps: int = 500,
    learning_rate: float = 1e-3,
    initial: float = 0.3,
    group: Callable[[str], Hashable] = lambda name: None,
) -> AdaMergingResult:
    """Learn the coefficients of `theta_0 + sum_i lambda_i (theta_i - theta_0)` by Adam (Yang et al., 2024, Section 3).

    As in the released code, the coefficients are clamped to [0, 1], and one that leaves this range stays there. All
    models are held in memory, and tensors that differ between models are held twice.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        thetas: Model -> weights after fine-tuning, with the same names, shapes and dtypes.
        loss: Called as `loss(theta)` once per step; returns a differentiable scalar. That of the paper is the entropy
            of the predictions on a batch of unlabelled images, in nats, summed over the tasks.
        steps: Number of optimisation steps.
        learning_rate: Learning rate for Adam.
        initial: Initial value of every coefficient.
        group: Called as `group(name)`; returns the group of a tensor. The tensors in a group share one coefficient per
            model. By default, all tensors are in one group (task-wise AdaMerging); pass `layer_index` to group tensors
            by layer (layer-wise AdaMerging), or `str` for one group per tensor, as the released code does.

    Returns:
        The merged weights, in the dtypes of theta_0, and the coefficients.

    Raises:
        InputError: If there are no models, the weights are not compatible, or an integer tensor differs.

    Example:
        >>> theta_0, thetas = {"w": torch.zeros(1)}, {"a": {"w": torch.ones(1)}}
        >>> merged = adamerging(theta_0, thetas, lambda theta: (theta["w"] - 0.4).square().sum())
        >>> round(merged.coefficients[None]["a"], 2)
        0.4
    """
    if not thetas:
        raise InputError("AdaMerging needs at least one fine-tuned model, got none.")
    for model, theta in thetas.items():
        check_compatible(theta_0, theta, model)
    base, models = dict(checked(theta_0, "theta_0")), all_finite(thetas)
    moved = {}
    for name, x_0 in base.items():
        taus = [subtract(name, x_0, theta[name]) for theta in models.values()]
        if any(bool(tau.any()) for tau in taus):
            moved[name] = torch.stack(taus)
    groups, start = {name: group(name) for name in base}, torch.full((len(thetas),), initial)
    device = next(iter(base.values())).device
    free = {key: start.clone().to(device).requires_grad_() for key in dict.fromkeys(map(groups.get, moved or base))}
    optimizer = torch.optim.Adam(free.values(), lr=learning_rate)
    for _ in tqdm(range(steps if moved else 0), "Learning coefficients", unit="step", leave=False, delay=1):
        optimizer.zero_grad()
        coefficients = {key: parameters.clamp(0, 1) for key, parameters in free.items()}
        mixed = {name: mix(base[name], tau, coefficients[groups[name]]) for name, tau in moved.items()}
        loss({**base, **mixed}).backward()
        optimizer.step()
    learned = {key: parameters.clamp(0, 1).tolist() for key, parameters in free.items()}
    merged = {}
    for name, x_0 in base.items():
        values = learned.get(groups[name], [0.0] * len(thetas))
        parts = [(theta[name], alpha) for theta, alpha in zip(models.values(), values, strict=True)]
        merged[name] = combine_tensor(name, x_0, parts, [*thetas])
    return AdaMergingResult(merged, {key: dict(zip(thetas, values, strict=True)) for key, values in learned.items()})


@dataclass(frozen=True, kw_only=True)
class AdaMerging(Several):
    """AdaMerging: one coefficient per model, or per layer and model, learned without labels.

    Attributes:
        by_layer: Whether every layer has its own coefficients.
        steps: Number of optimisation steps.
        learning_rate: Learning rate for Adam.
        initial: Initial value of every coefficient.
        images: Split whose images are used, without their labels. The paper uses those of `test`; then the test
            accuracies are no longer those of unseen images, which the card says.
    """

    name: ClassVar[str] = "adamerging"
    end: ClassVar[str] = "merged"
    reads_entropy: ClassVar[bool] = True
    by_layer: bool = True
    steps: int = 500
    learning_rate: float = 1e-3
    initial: float = 0.3
    images: AnySplit = "validation"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0 or not 0 <= self.initial <= 1:
            raise InputError(
                f"The method '{self.name}' needs `steps` of at least 1, a `learning_rate` above 0 and `initial` in "
                f"[0, 1], got {self.steps}, {self.learning_rate} and {self.initial}."
            )
        if self.images not in get_args(AnySplit):
            hint = did_you_mean(self.images, get_args(AnySplit))
            raise InputError(
                f"`images` of the method '{self.name}' must be validation, train or test, got {self.images!r}.{hint}"
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

    def measured(self, num_models: int) -> Measured:
        """Return the number of batches, one per step."""
        return Measured(entropies=self.steps)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the merged weights, and record the coefficients."""
        device = measurements.device
        merged = adamerging(
            {name: x.to(device) for name, x in theta_0.items()},
            {model: {name: x.to(device) for name, x in theta.items()} for model, theta in thetas.items()},
            measurements.entropies(self.images),
            steps=self.steps,
            learning_rate=self.learning_rate,
            initial=self.initial,
            group=layer_index if self.by_layer else lambda name: None,
        )
        measurements.record({_layer_name(key): values for key, values in merged.coefficients.items()})
        return merged.theta

    def sentence(self) -> str:
        """Return text for the model card that describes how the coefficients were learned."""
        scope = "one per layer and model" if self.by_layer else "one per model"
        images = {"validation": "the validation images", "train": "training images"}.get(
            self.images, "the test images, so the test accuracies on this card are not those of unseen images"
        )
        return (
            "`theta_1 - theta_0` is a weighted sum of the task vectors of the fine-tuned models (AdaMerging). Its "
            f"coefficients, {scope}, were learned for {self.steps} steps without labels, by minimising the entropy of "
            f"predictions on {images}."
        )


def _layer_name(group: Hashable) -> str:
    """Return a name for a group of `layer_index`, or for all tensors."""
    named: dict[Hashable, str] = {None: "all tensors", 0: "embeddings", -1: "after the encoder"}
    return named.get(group, f"layer {group}")
