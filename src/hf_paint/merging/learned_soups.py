"""Learned soups: weighted means whose coefficients are trained on validation data (Wortsman et al., ICML 2022)."""

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import ImageSplit, Measured, Measurements, Several
from hf_paint.merging.interpolation import Weights, combine_tensor, subtract
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite
from hf_paint.weights.layers import layer_index


@dataclass(frozen=True, slots=True, eq=False)
class LearnedSoupResult:
    """Result of `learned_soup`.

    Attributes:
        theta: Weights of the soup, name -> tensor.
        coefficients: Group of tensors -> model -> coefficient. Within a group, the coefficients sum to 1.
    """

    theta: dict[str, Tensor]
    coefficients: dict[Hashable, dict[str, float]]


def learned_soup(
    thetas: Mapping[str, Weights],
    loss: Callable[[Weights], Tensor],
    *,
    steps: int = 100,
    learning_rate: float = 0.05,
    group: Callable[[str], Hashable] = lambda name: None,
    parameters: Iterable[Tensor] = (),
) -> LearnedSoupResult:
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
    for name, theta in thetas.items():
        check_compatible(next(iter(thetas.values())), theta, name)
    first, *others = all_finite(thetas).values()
    taus = {name: [subtract(name, x_0, theta[name]) for theta in others] for name, x_0 in first.items()}
    moved = {name: torch.stack(parts) for name, parts in taus.items() if any(bool(tau.any()) for tau in parts)}
    groups = {name: group(name) for name in first}
    device = next(iter(first.values())).device
    free = {key: torch.zeros(len(thetas), device=device, requires_grad=True) for key in groups.values()}
    optimizer = torch.optim.Adam([*free.values(), *parameters], lr=learning_rate)
    for _ in range(steps):
        optimizer.zero_grad()
        coefficients = {key: parameters.softmax(dim=0) for key, parameters in free.items()}
        mixed = {name: mix(first[name], tau, coefficients[groups[name]][1:]) for name, tau in moved.items()}
        loss({**first, **mixed}).backward()
        optimizer.step()
    learned = {key: parameters.softmax(dim=0).tolist() for key, parameters in free.items()}
    theta = {
        name: combine_tensor(name, x_0, _parts(name, others, learned[groups[name]]), [*thetas][1:])
        for name, x_0 in first.items()
    }
    return LearnedSoupResult(theta, {key: dict(zip(thetas, values, strict=True)) for key, values in learned.items()})


def mix(x_0: Tensor, taus: Tensor, coefficients: Tensor) -> Tensor:
    """Return `x_0 + sum_i a_i tau_i`, differentiable in the coefficients a (n,); taus has shape (n, *shape)."""
    step = torch.tensordot(coefficients.to(taus.dtype), taus, dims=1)
    mixed: Tensor = x_0.detach().to(taus.dtype) + step
    return mixed.to(x_0.dtype)


def _parts(name: str, others: Sequence[Mapping[str, Tensor]], coefficients: list[float]) -> list[tuple[Tensor, float]]:
    return [(theta[name], alpha) for theta, alpha in zip(others, coefficients[1:], strict=True)]


@dataclass(frozen=True, kw_only=True)
class LearnedSoup(Several):
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
    by_layer: bool = False
    images: ImageSplit = "validation"

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0:
            raise InputError(
                f"The method '{self.name}' needs `steps` of at least 1 and a `learning_rate` above 0, got "
                f"{self.steps} and {self.learning_rate}."
            )
        if self.images not in get_args(ImageSplit):
            hint = did_you_mean(self.images, get_args(ImageSplit))
            raise InputError(
                f"`images` of the method '{self.name}' must be validation or train, got {self.images!r}.{hint}"
            )

    @property
    def needs_validation(self) -> bool:
        """Whether the coefficients are trained on validation images."""
        return self.images == "validation"

    @property
    def needs_train(self) -> bool:
        """Whether the coefficients are trained on training images."""
        return self.images == "train"

    def measured(self, num_models: int) -> Measured:
        """Return the number of batches, one per step."""
        return Measured(losses=self.steps)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the learned soup."""
        loaded = {name: {key: x.to(measurements.device) for key, x in theta.items()} for name, theta in thetas.items()}
        losses = measurements.losses(self.images)
        beta = torch.ones((), device=measurements.device, requires_grad=True)
        soup = learned_soup(
            loaded,
            lambda theta: losses(theta, beta),
            steps=self.steps,
            learning_rate=self.learning_rate,
            group=layer_index if self.by_layer else lambda name: None,
            parameters=[beta],
        )
        return soup.theta

    def sentence(self) -> str:
        """Return text for the model card that describes how the coefficients were trained."""
        scope = "per layer and model" if self.by_layer else "per model"
        images = "the validation images" if self.images == "validation" else "training images"
        return (
            f"`theta_1` is a learned soup: a weighted mean of the fine-tuned models whose coefficients, one {scope}, "
            f"were trained together with a temperature for {self.steps} steps on {images}."
        )
