"""AdaMerging: coefficients learned by making predictions on unlabelled images certain (Yang et al., ICLR 2024)."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import AnySplit, Measured, Measurements, check_share
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.learning import Learned, LearnedMerge, Mixture, on_device


def adamerging(
    theta_0: Weights,
    thetas: Mapping[str, Weights],
    loss: Callable[[Weights], Tensor],
    *,
    steps: int = 500,
    learning_rate: float = 1e-3,
    initial: float = 0.3,
    group: Callable[[str], Hashable] = lambda name: None,
) -> LearnedMerge:
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

    def bounded(parameters: Tensor) -> Tensor:
        """Return the coefficients of a group, which has one parameter for each model."""
        return parameters.clamp(0, 1)

    mixture, start = Mixture(theta_0, thetas, group), torch.full((len(thetas),), initial)
    free = mixture.learn(loss, start, bounded, steps=steps, learning_rate=learning_rate)
    learned = {key: bounded(parameters).tolist() for key, parameters in free.items()}
    coefficients = {key: dict(zip(thetas, values, strict=True)) for key, values in learned.items()}
    return LearnedMerge(mixture.at(learned), coefficients)


@dataclass(frozen=True, kw_only=True)
class AdaMerging(Learned):
    """AdaMerging: one coefficient per model, or per layer and model, learned without labels.

    Attributes:
        initial: Initial value of every coefficient.
        images: Split whose images are used, without their labels. The paper uses those of `test`; then the test
            accuracies are no longer those of unseen images, which the card says.
    """

    name: ClassVar[str] = "adamerging"
    end: ClassVar[str] = "merged"
    reads_entropy: ClassVar[bool] = True
    splits: ClassVar[Sequence[str]] = get_args(AnySplit)
    steps: int = 500
    learning_rate: float = 1e-3
    by_layer: bool = True
    initial: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share(self.name, "initial", self.initial)

    def measured(self, num_models: int) -> Measured:
        """Return the number of batches, one per step."""
        return Measured(entropies=self.steps)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the merged weights, and record the coefficients."""
        device = measurements.device
        merged = adamerging(
            on_device(theta_0, device),
            {model: on_device(theta, device) for model, theta in thetas.items()},
            measurements.entropies(self.images),
            steps=self.steps,
            learning_rate=self.learning_rate,
            initial=self.initial,
            group=self.group,
        )
        return self.recorded(merged, measurements)

    def sentence(self) -> str:
        """Return text for the model card that describes how the coefficients were learned."""
        return (
            "`theta_1 - theta_0` is a weighted sum of the task vectors of the fine-tuned models (AdaMerging). Its "
            f"coefficients, {self.scope}, were learned for {self.steps} steps without labels, by minimising the "
            f"entropy of predictions on {self.drawn_from}."
        )
