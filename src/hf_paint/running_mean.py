"""The mean of many sets of weights, of which one tensor at a time is read."""

from collections.abc import Mapping

from torch import Tensor

from hf_paint.task_vectors import add, subtract
from hf_paint.weights.compatibility import check_compatible, tensor_specs


class RunningMean:
    """A mean that grows by one set of weights at a time.

    It is kept as the sum of the differences to the first, in float32 (float64 for float64 tensors), so that a weight
    that is equal in all is unchanged, which `(x + x + x) / 3` does not promise. In memory are that sum and the tensor
    that is being read; the first is read again where its tensors are needed.

    Args:
        theta: The first set of weights, name -> tensor.

    Example:
        >>> mean = RunningMean({"w": torch.tensor([1.0])})
        >>> mean.add({"w": torch.tensor([2.0])})
        >>> mean.mean(), mean.mean({"w": torch.tensor([6.0])})
        ({'w': tensor([1.5000])}, {'w': tensor([3.])})
    """

    def __init__(self, theta: Mapping[str, Tensor]) -> None:
        self.count = 1
        self._first = theta
        self._specs = tensor_specs(theta)
        self._totals: dict[str, Tensor] = {}

    def add(self, theta: Mapping[str, Tensor], name: str = "theta") -> None:
        """Let one more set of weights count; `name` is what messages call it.

        Raises:
            InputError: If it does not fit to the first, or an integer tensor differs.
        """
        check_compatible(self._specs, tensor_specs(theta), name)
        for tensor in self._specs:
            self._totals[tensor] = self._total(tensor, theta)
        self.count += 1

    def mean(self, theta: Mapping[str, Tensor] | None = None, name: str = "theta") -> dict[str, Tensor]:
        """Return the mean, or what it would be with one more set of weights.

        Raises:
            InputError: As `add`.
        """
        if theta is None:
            return {
                tensor: add(x, self._totals[tensor] / self.count) if self.count > 1 else x.detach().clone()
                for tensor, x in self._first.items()
            }
        check_compatible(self._specs, tensor_specs(theta), name)
        return {tensor: add(x, self._total(tensor, theta) / (self.count + 1)) for tensor, x in self._first.items()}

    def _total(self, tensor: str, theta: Mapping[str, Tensor]) -> Tensor:
        tau = subtract(tensor, self._first[tensor], theta[tensor])
        return tau + self._totals[tensor] if tensor in self._totals else tau
