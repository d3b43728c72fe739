"""TSV-Merge: decorrelate the top singular vectors of task matrices (Gargiulo et al., CVPR 2025)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.spectral import Decomposition, concatenate, mean, merge_matrices
from hf_paint.models.devices import float64_device


END = "TSV-M"


def tsv(theta_0: Weights, thetas: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Merge the top singular directions of all tasks after making them orthogonal (TSV-M; Gargiulo et al., 2025).

    For T tasks, each matrix of a task vector keeps the `min(num_rows, num_columns) // T` directions with the largest
    singular values. The directions of all tasks are put side by side, and their left and right singular vectors are
    each replaced by the nearest orthonormal vectors (Algorithm 1). The singular values stay as they are.

    A matrix is any tensor with two dimensions, which includes position embeddings. All other tensors are averaged:
    biases, layer norms, the class embedding, the patch convolution; so are the text projection and matrices with less
    than one direction per task. Directions with a singular value of zero are left out.

    Args:
        theta_0: Weights before fine-tuning, name -> tensor. Tensors are read one at a time.
        thetas: Task -> weights after fine-tuning, with the same names, shapes and dtypes. Two or more.

    Returns:
        name -> tensor at alpha 1, in the same dtypes as the inputs. Matrices are decomposed exactly, in float64 on the
        device of each tensor. To scale the merged task vector, pass the result to `interpolate`.

    Raises:
        InputError: If there are fewer than two models, the weights are not compatible, an integer tensor differs, or
            a changed matrix contains inf or NaN.

    Example:
        >>> tasks = {"a": torch.tensor([3.0, 0.0]), "b": torch.tensor([0.0, 2.0])}
        >>> thetas = {task: {"w": torch.diag(x)} for task, x in tasks.items()}
        >>> tsv({"w": torch.zeros(2, 2)}, thetas)
        {'w': tensor([[3., 0.],
                [0., 2.]])}
    """
    return merge_matrices(theta_0, thetas, _merge, method=END)


def _merge(taus: Sequence[Tensor], decomposition: Decomposition) -> Tensor:
    number = min(taus[0].shape) // len(taus)
    if number == 0:
        return mean(taus)
    left, values, right = concatenate([decomposition.directions(tau).first(number) for tau in taus])
    return (decomposition.nearest_orthogonal(left) * values) @ decomposition.nearest_orthogonal(right).T


@dataclass(frozen=True, kw_only=True)
class TSV(Several):
    """TSV-M: the top singular directions of all task matrices, made orthogonal to reduce interference."""

    name: ClassVar[str] = "tsv"
    end: ClassVar[str] = END
    cheap: ClassVar[bool] = True

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_0 plus the merged task vector, computed on the device of the run."""
        return merge_matrices(theta_0, thetas, _merge, method=END, device=float64_device(measurements.device))

    def sentence(self) -> str:
        """Return text for the model card that describes the merged task vector."""
        return (
            "`theta_1 - theta_0` merges the task vectors of the fine-tuned models with TSV-M: each matrix keeps the "
            "same number of top singular directions from every model, which are then made orthogonal; other tensors "
            "are averaged."
        )
