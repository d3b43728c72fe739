"""RegMean: merge linear layers by least squares on their inputs, in closed form (Jin et al., ICLR 2023)."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.base import Measured, Measurements, Several, check_drawn, check_share
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.spectral import mean
from hf_paint.merging.task_arithmetic import merge_task_vectors
from hf_paint.models.devices import float64_device, to_float64
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite, finite


END = "RegMean"
REDUCTION = 0.9


def regmean(
    thetas: Mapping[str, Weights], grams: Mapping[str, Weights], *, reduction: float = REDUCTION
) -> dict[str, Tensor]:
    """Merge models so that each layer's outputs on the inputs of each model stay near its own (Jin et al., 2023).

    The merged weights W of a layer minimise `sum_i ||X_i W.T - X_i W_i.T||^2`, where X_i are the inputs of the layer
    in model i: `W.T = (sum_i G_i)^-1 sum_i G_i W_i.T` with the Gram matrix `G_i = X_i.T @ X_i`. Before, the entries of
    G_i off the diagonal are multiplied by `reduction` (Section 3). All other tensors are averaged.

    If the sum of the Gram matrices is singular, as with `reduction` 1 and inputs that are always zero, several W are
    equally good, and the one that differs least from the mean of the models is taken.

    Args:
        thetas: Model -> weights, with the same names, shapes and dtypes. Tensors are read one at a time.
        grams: Model -> Gram matrix of each layer, by the name of its weight: of shape (num_inputs, num_inputs), up to
            a factor that the models share (`collect_grams`). The weight of a convolution is a matrix with a row for
            each output. They are read one at a time, too.
        reduction: Factor for the entries off the diagonal, in [0, 1]. With 0, each column of a matrix is a mean of
            the models, weighted by the size of that input.

    Returns:
        name -> tensor, in the same dtypes as the inputs. Computed in float64 on the device of each tensor. Tensors
        that are equal in all models stay unchanged, bit for bit.

    Raises:
        InputError: If there are no models, they are not compatible, an integer tensor differs, a Gram matrix is
            missing or has another shape, a value is inf or NaN, or `reduction` is out of range.

    Example:
        >>> thetas = {"a": {"w": torch.tensor([[1.0, 0.0]])}, "b": {"w": torch.tensor([[0.0, 1.0]])}}
        >>> grams = {"a": {"w": torch.diag(torch.tensor([3.0, 1.0]))}, "b": {"w": torch.eye(2)}}
        >>> regmean(thetas, grams)
        {'w': tensor([[0.7500, 0.5000]])}
    """
    return _merge(thetas, grams, reduction)


@torch.no_grad()
def _merge(
    thetas: Mapping[str, Weights], grams: Mapping[str, Weights], reduction: float, device: torch.device | None = None
) -> dict[str, Tensor]:
    check_share("regmean", "reduction", reduction)
    layers = _layers(thetas, grams)

    def merge_tensor(name: str, taus: Mapping[str, Tensor]) -> Tensor:
        """Return the merged change of a tensor: by RegMean if its inputs are known, else the mean."""
        first, *_ = parts = [*taus.values()]
        if name not in layers or not any(bool(tau.any()) for tau in parts):
            return mean(parts)
        matrices = {model: to_float64(tau.to(device or tau.device)).flatten(1) for model, tau in taus.items()}
        read = {model: partial(_gram, name, model, grams[model], tau) for model, tau in matrices.items()}
        return _merge_matrices(matrices, read, reduction).to(first).view_as(first)

    known = all_finite(thetas)
    return merge_task_vectors(known[next(iter(known))], known, 1.0, merge_tensor, progress=END)


def _layers(thetas: Mapping[str, Weights], grams: Mapping[str, Weights]) -> Collection[str]:
    """Return the names of the weights with Gram matrices, after checking which models have which."""
    if not thetas:
        raise InputError("RegMean needs at least one fine-tuned model, got none.")
    first = next(iter(thetas))
    for model, theta in thetas.items():
        check_compatible(thetas[first], theta, model)
        if model not in grams:
            raise InputError(f"RegMean needs the Gram matrices of every model, but those of '{model}' are missing.")
        if differing := sorted(grams[model].keys() ^ grams[first].keys()):
            raise InputError(
                f"RegMean needs Gram matrices of the same layers for every model, but only one of '{first}' and "
                f"'{model}' has that of '{differing[0]}'."
            )
    if unknown := sorted(grams[first].keys() - thetas[first].keys()):
        raise InputError(f"There is a Gram matrix for '{unknown[0]}', but the models have no tensor of this name.")
    return grams[first].keys()


def _gram(name: str, model: str, grams: Weights, matrix: Tensor) -> Tensor:
    """Read the Gram matrix of a layer, on the device of its weights (num_outputs, num_inputs)."""
    gram = finite(name, grams[name], f"the Gram matrices of {model}")
    if gram.shape != (size := (matrix.shape[1], matrix.shape[1])):
        raise InputError(
            f"The Gram matrix of '{name}' of {model} must have the shape {size}, got {tuple(gram.shape)}."
        )
    return gram.to(matrix.device)


def _merge_matrices(
    matrices: Mapping[str, Tensor], grams: Mapping[str, Callable[[], Tensor]], reduction: float
) -> Tensor:
    """Merge matrices (num_outputs, num_inputs) by least squares; Gram matrices are read and added one at a time."""
    middle = mean([*matrices.values()])
    num_inputs, epsilon = middle.shape[1], 0.0
    total, target = middle.new_zeros(num_inputs, num_inputs), torch.zeros_like(middle.T)
    for model, matrix in matrices.items():
        gram = grams[model]()
        epsilon = max(epsilon, torch.finfo(torch.promote_types(gram.dtype, torch.float32)).eps)
        gram = to_float64(gram).to(middle.device)
        diagonal = gram.diagonal().clone()
        gram = gram.mul(reduction)
        gram.diagonal().copy_(diagonal)
        total += gram
        target += gram @ (matrix - middle).T
    return middle + _solve(total, target, num_inputs * epsilon).T


def _solve(matrix: Tensor, target: Tensor, rounding: float) -> Tensor:
    """Return the smallest solution of `matrix @ x = target`, where `matrix` is positive semi-definite.

    Rows and columns are scaled first so that the diagonal is 1; "smallest" and `rounding` refer to that.

    Args:
        matrix: Shape (size, size).
        target: Shape (size, number).
        rounding: Largest eigenvalue that may be due to rounding, and counts as zero.
    """
    sizes = matrix.diagonal().clamp(min=0).sqrt()
    scale = torch.where(sizes > 0, 1 / sizes, 0)[:, None]  # an input that is always zero keeps the solution 0
    matrix, target = (scale * matrix * scale.T).fill_diagonal_(1), scale * target
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if not bool(failed) and bool(factor.diagonal().min().square() > rounding):
        return scale * torch.cholesky_solve(target, factor)
    values, vectors = torch.linalg.eigh(matrix)
    values, vectors = values[values > rounding], vectors[:, values > rounding]
    solution: Tensor = vectors @ (vectors.T @ target / values[:, None])
    return scale * solution


@dataclass(frozen=True, kw_only=True)
class RegMean(Several):
    """RegMean: linear layers are merged by least squares on their inputs, which need no labels (`regmean`).

    Attributes:
        reduction: Factor for the correlations between different inputs.
        num_images: Number of training images to measure the inputs of each model on.
        seed: Random seed for drawing them.
    """

    name: ClassVar[str] = "regmean"
    end: ClassVar[str] = END
    reduction: float = REDUCTION
    num_images: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        check_share(self.name, "reduction", self.reduction)
        check_drawn(self.name, self.num_images, self.seed)

    @property
    def needs_train(self) -> bool:
        """The inputs of layers are measured on training images."""
        return True

    def measured(self, num_models: int) -> Measured:
        """Return the number of images that the inputs of each model are measured on."""
        return Measured(grams=self.num_images)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the merged weights, computed on the device of the run."""
        grams = {
            name: measurements.grams(name, theta, num_images=self.num_images, seed=self.seed)
            for name, theta in thetas.items()
        }
        return _merge(thetas, grams, self.reduction, float64_device(measurements.device))

    def sentence(self) -> str:
        """Return text for the model card that describes the merge and the images that it needs."""
        return (
            "`theta_1` merges the fine-tuned models with RegMean: the weights of each linear layer are those that "
            "reproduce, by least squares, the outputs of every model on the inputs that this layer has in it for "
            f"{self.num_images} training images without their labels (`reduction` {self.reduction:g}); other tensors "
            "are averaged."
        )
