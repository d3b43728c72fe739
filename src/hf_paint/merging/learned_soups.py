"""Learned soups: weighted means whose coefficients are trained on validation data (Wortsman et al., ICML 2022)."""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import ImageSplit, Measured, Measurements
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.learning import Learned, LearnedMerge, Mixture, on_device
from hf_paint.weights.finite import all_finite


def learned_soup(
    thetas: Mapping[str, Weights],
    loss: Callable[[Weights], Tensor],
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
    group: Callable[[str], Hashable] = lambda name: None,
    parameters: Iterable[Tensor] = (),
) -> LearnedMerge:
    """Learn the coefficients of a soup by gradient descent (Wortsman et al., 2022, Section 2 and its appendix).

    The coefficients are the softmax of free parameters, which are initialised to zero and trained with Adam. All
    models are held in memory, and tensors that differ between models are held twice.

    Args:
        thetas: Model -> weights. All models must have the same names, shapes and dtypes.
        loss: Called as `loss(theta)` once per step; returns a differentiable scalar, e.g. the cross-entropy of
            `torch.func.functional_call(model, theta, ...)` on a batch of validation data.
        steps: Number of optimisation steps.
        learning_rate: Learning rate for Adam.
        group: Called as `group(name)`; returns the group of a tensor. The tensors in a group share one coefficient per
            model. By default, all tensors are in one group; pass `layer_index` to group tensors by layer.
        parameters: Other tensors to train together with the coefficients, which `loss` reads. The paper also trains a
            temperature `beta`, by which the logits are multiplied: pass `[beta]`, with `beta` initialised to 1.

    Returns:
        The weights of the soup, in the dtypes of the models, and the coefficients.

    Raises:
        InputError: If there are no models, the weights are not compatible, or an integer tensor differs.

    Example:
        >>> thetas = {"a": {"weight": torch.tensor([[0.0]])}, "b": {"weight": torch.tensor([[4.0]])}}
        >>> layer, x = nn.Linear(1, 1, bias=False), torch.tensor([[1.0]])
        >>> soup = learned_soup(thetas, lambda theta: (torch.func.functional_call(layer, theta, x) - 3).square().sum())
        >>> round(soup.coefficients[None]["b"], 2)
        0.75
    """
    if not thetas:
        raise InputError("A soup needs at least one model, got none.")
    (_, first), *others = all_finite(thetas).items()
    mixture = Mixture(first, dict(others), group)
    free = mixture.learn(
        loss,
        torch.zeros(len(thetas)),
        lambda parameters: parameters.softmax(dim=0)[1:],  # the first model has the rest
        steps=steps,
        learning_rate=learning_rate,
        parameters=parameters,
    )
    learned = {key: parameters.softmax(dim=0).tolist() for key, parameters in free.items()}
    theta = mixture.at({key: values[1:] for key, values in learned.items()})
    return LearnedMerge(theta, {key: dict(zip(thetas, values, strict=True)) for key, values in learned.items()})


@dataclass(frozen=True, kw_only=True)
class LearnedSoup(Learned):
    """Learned soup: a weighted mean whose coefficients are trained on images of the patching tasks.

    A temperature is trained together with the coefficients, as in the paper. It only rescales the logits, so the
    patched model does not contain it.

    Attributes:
        images: Split to train on. `validation` is that of the paper, but its images also choose alpha; those of
            `train` do not, but the models were fine-tuned on them.
    """

    name: ClassVar[str] = "learned_soup"
    end: ClassVar[str] = "soup"
    reads_labels: ClassVar[bool] = True
    steps: int = 100
    learning_rate: float = 0.05
    images: ImageSplit = "validation"

    def measured(self, num_models: int) -> Measured:
        """Return the number of batches, one per step."""
        return Measured(losses=self.steps)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the learned soup, and record the coefficients."""
        device, losses = measurements.device, measurements.losses(self.images)
        beta = torch.ones((), device=device, requires_grad=True)
        soup = learned_soup(
            {model: on_device(theta, device) for model, theta in thetas.items()},
            lambda theta: losses(theta, beta),
            steps=self.steps,
            learning_rate=self.learning_rate,
            group=self.group,
            parameters=[beta],
        )
        return self.recorded(soup, measurements)

    def sentence(self) -> str:
        """Return text for the model card that describes how the coefficients were trained."""
        return (
            "`theta_1` is a learned soup: a weighted mean of the fine-tuned models whose coefficients, "
            f"{self.scope}, were trained together with a temperature for {self.steps} steps on {self.drawn_from}."
        )
