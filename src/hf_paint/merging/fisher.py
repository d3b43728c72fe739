"""Fisher-weighted interpolation: each parameter is weighted by its Fisher information (Matena & Raffel, 2022)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import functional_call, grad, vmap
from torch.nn import functional

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_values
from hf_paint.merging.base import Information, Measured, Method, check_drawn
from hf_paint.merging.interpolation import Weights, add, combine_tensor, subtract
from hf_paint.merging.path import WeightPath
from hf_paint.models.devices import float64_device, to_float64
from hf_paint.models.heads import ZeroShotHead
from hf_paint.models.towers import ImageTower, attention
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.weights.compatibility import check_alpha, check_compatible
from hf_paint.weights.finite import finite, in_range


FLOOR = 1e-8
"""Lower bound on the Fisher information of a parameter, as in the released WiSE-FT code. It prevents 0 / 0."""


def estimate_fisher(
    tower: ImageTower,
    head: ZeroShotHead,
    batches: Iterable[Tensor],
    *,
    seed: int = 0,
    chunk_size: int = 2,
) -> dict[str, Tensor]:
    """Estimate the diagonal Fisher information of an image tower (Matena & Raffel, 2022, Section 2).

    The estimate is the squared gradient of `log p(label | image)`, averaged over the images, with labels sampled from
    the predicted distribution. Use training images, since information from test images would leak into the weights.

    Args:
        tower: Image tower with the weights theta_0 or theta_1. It is left unchanged.
        head: Zero-shot head for the task, with the same device and dtype as the tower.
        batches: Batches of normalised pixels with shape (batch, 3, height, width). The batch size does not affect the
            result.
        seed: Random seed for sampling the labels.
        chunk_size: Number of images to process at once. Each one needs a gradient as large as the tower. On a CPU,
            more than two are slower.

    Returns:
        Parameter -> Fisher information with the same shape, in float32 (float64 for a float64 tower), because half
        precision cannot represent small squares or their sum.

    Raises:
        InputError: If there are no images, or if a gradient is not finite.

    Example:
        >>> pixels = torch.randn(4, 3, 32, 32)
        >>> head = build_zero_shot_head(model, tokenizer, ["cat", "dog"], ["a photo of a {}."])
        >>> fisher = estimate_fisher(image_tower(model), head, [pixels])
        >>> fisher["visual_projection.weight"].shape
        torch.Size([24, 48])
    """
    parameters = {name: parameter.detach() for name, parameter in tower.named_parameters()}
    total = {name: torch.zeros_like(p, dtype=_at_least_float32(p)) for name, p in parameters.items()}
    generator, num_images = torch.Generator().manual_seed(seed), 0
    gradients_of = vmap(grad(partial(_sampled_loss, tower, head)), in_dims=(None, 0, 0))  # of each image
    with attention(tower, "eager"):  # fused kernels do not support per-example gradients
        for chunk in (chunk for batch in batches for chunk in batch.split(chunk_size)):
            # One number per image, so that the labels do not depend on the chunk size or device.
            draws = torch.rand(len(chunk), generator=generator, dtype=torch.float64).to(float64_device(chunk.device))
            for name, gradient in gradients_of(parameters, chunk, draws).items():
                total[name] += gradient.to(total[name].dtype).square_().sum(dim=0)  # (chunk, *shape) -> (*shape)
            num_images += len(chunk)
    if not num_images:
        raise InputError("Estimating the Fisher information requires at least one image, got none.")
    for name, value in total.items():
        if not bool(value.isfinite().all()):
            raise InputError(f"The Fisher information of '{name}' is not finite. Check the weights and the pixels.")
    return {name: value / num_images for name, value in total.items()}


def _sampled_loss(tower: ImageTower, head: ZeroShotHead, weights: Weights, pixels: Tensor, draw: Tensor) -> Tensor:
    """Return the cross-entropy in nats for one image (3, height, width) and a label sampled from the model."""
    embeds = functional_call(tower, dict(weights), kwargs={"pixel_values": pixels[None]}).image_embeds
    logits: Tensor = head(embeds)  # (1, num_classes)
    return functional.cross_entropy(logits, draw_labels(logits.detach(), draw[None]))


def interpolate_fisher(
    theta_0: Weights,
    theta_1: Weights,
    fisher_0: Weights,
    fisher_1: Weights,
    alpha: float,
) -> dict[str, Tensor]:
    """Interpolate with Fisher weighting (Matena & Raffel, 2022, Section 2; released WiSE-FT code).

    Each parameter is `((1 - alpha) F_0 theta_0 + alpha F_1 theta_1) / ((1 - alpha) F_0 + alpha F_1)`, with F clamped
    to at least 1e-8. A tensor is interpolated linearly unless both models have Fisher information for it.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning, with the same names, shapes and dtypes.
        fisher_0: Name -> Fisher information of theta_0, with the same shape as the tensor.
        fisher_1: Name -> Fisher information of theta_1.
        alpha: Position between theta_0 (0) and theta_1 (1). At either end, the result is bit-identical to that model.

    Returns:
        name -> tensor, in the same dtypes as the inputs. Parameters that fine-tuning left
            unchanged are returned bit for bit.

    Raises:
        InputError: If the weights or the Fisher information are not compatible, an integer tensor differs, or alpha is
            out of range.

    Example:
        >>> theta_0, theta_1 = {"w": torch.zeros(2)}, {"w": torch.ones(2)}
        >>> fisher_0, fisher_1 = {"w": torch.tensor([1.0, 3.0])}, {"w": torch.tensor([1.0, 1.0])}
        >>> interpolate_fisher(theta_0, theta_1, fisher_0, fisher_1, 0.5)
        {'w': tensor([0.5000, 0.2500])}
    """
    check_alpha(alpha)
    return FisherPath(theta_0, theta_1, fisher_0, fisher_1).at(alpha)


def draw_labels(logits: Tensor, draws: Tensor) -> Tensor:
    """Sample one class per row of logits (batch, num_classes), using numbers (batch,) drawn uniformly from [0, 1).

    The draws are in float64, on the device on which the logits can be too (`float64_device`).
    """
    reached = to_float64(logits).softmax(dim=1).cumsum(dim=1)[:, :-1]  # the last class absorbs the rounding error
    return (reached <= draws[:, None]).sum(dim=1).to(logits.device)


def _share_of_theta_1(fisher_0: Tensor, fisher_1: Tensor, alpha: float) -> Tensor:
    """Return the weight of theta_1 in the Fisher-weighted mean, elementwise."""
    floored_0, floored_1 = (fisher.to(_at_least_float32(fisher)).clamp(min=FLOOR) for fisher in (fisher_0, fisher_1))
    weight_0, weight_1 = (1 - alpha) * floored_0, alpha * floored_1
    return weight_1 / (weight_0 + weight_1)


def _at_least_float32(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


class FisherPath(WeightPath):
    """Path of Fisher-weighted interpolations (`interpolate_fisher`). Each alpha is a number in [0, 1].

    Args:
        theta_0: Weights before fine-tuning, name -> tensor.
        theta_1: Weights after fine-tuning, with the same names, shapes and dtypes.
        fisher_0: Name -> Fisher information of theta_0, with the same shape as the tensor.
        fisher_1: Name -> Fisher information of theta_1.

    Raises:
        InputError: If the weights or the Fisher information are not compatible.
    """

    def __init__(self, theta_0: Weights, theta_1: Weights, fisher_0: Weights, fisher_1: Weights) -> None:
        super().__init__(theta_0, theta_1, fisher_0, fisher_1)
        check_compatible(theta_0, theta_1)
        for name in theta_0.keys() & fisher_0.keys() & fisher_1.keys():
            shape = theta_0[name].shape
            if not fisher_0[name].shape == fisher_1[name].shape == shape:
                raise InputError(f"The Fisher information of '{name}' must have the shape {tuple(shape)}.")

    @property
    def ends(self) -> Sequence[Weights]:
        """theta_1."""
        return self.inputs[1:2]

    def tensor(self, name: str, alpha: Alpha, device: torch.device | None = None) -> Tensor:
        """Compute one tensor of theta_alpha, on `device` if given."""
        alpha = _number(alpha)
        x_0, x_1, *information = (weights[name].to(device=device) for weights in self.inputs if name in weights)
        if alpha in (0, 1) or len(information) < 2:
            return combine_tensor(name, x_0, [(x_1, alpha)])
        fisher_0, fisher_1 = information
        finite(name, x_0, "theta_0")
        finite(name, x_1, "theta_1")
        return in_range(name, add(x_0, _share_of_theta_1(fisher_0, fisher_1, alpha) * subtract(name, x_0, x_1)))

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of theta_alpha. At alpha 0 and 1, it is the fingerprint of theta_0 and theta_1."""
        alpha, (theta_0, theta_1, *_) = _number(alpha), self.fingerprints
        if alpha in (0, 1):
            return fingerprint_interpolation(theta_0, theta_1, alpha)
        return fingerprint_values("fisher", *self.fingerprints, float(alpha))


def _number(alpha: Alpha) -> float:
    if isinstance(alpha, Coefficients):
        raise InputError(f"Fisher-weighted interpolation takes one alpha, got the coefficients {dict(alpha)}.")
    return alpha


@dataclass(frozen=True, kw_only=True)
class Fisher(Method):
    """Fisher-weighted interpolation: parameters are weighted by their Fisher information (`interpolate_fisher`)."""

    name: ClassVar[str] = "fisher"
    formula: ClassVar[str] = ""
    extrapolates: ClassVar[bool] = False
    is_line: ClassVar[bool] = False
    samples_labels: ClassVar[bool] = True
    num_images: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        check_drawn(self.name, self.num_images, self.seed)

    @property
    def needs_train(self) -> bool:
        """Fisher information is estimated on training images."""
        return True

    def measured(self, num_models: int) -> Measured:
        """Return the number of images that the Fisher information is estimated on."""
        return Measured(fisher=self.num_images)

    def path(self, theta_0: Weights, theta_1: Weights, information: Information) -> WeightPath:
        """Return the Fisher-weighted path from theta_0 to theta_1."""
        fisher_0, fisher_1 = (
            information.fisher(name, theta, num_images=self.num_images, seed=self.seed)
            for name, theta in (("theta_0", theta_0), ("theta_1", theta_1))
        )
        return FisherPath(theta_0, theta_1, fisher_0, fisher_1)

    def sentence(self) -> str:
        """Return text for the model card that gives the formula and the number of images."""
        return (
            "The interpolation weights each parameter by its Fisher information F in both models: `((1 - alpha) F_0 "
            "theta_0 + alpha F_1 theta_1) / ((1 - alpha) F_0 + alpha F_1)`, where F was estimated on "
            f"{self.num_images} training images."
        )
