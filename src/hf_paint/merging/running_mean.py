"""The mean of models that are added one after the other, as a greedy soup adds them."""

from torch import Tensor

from hf_paint.merging.interpolation import Weights, add, subtract
from hf_paint.weights.compatibility import check_compatible, headers_of


class RunningMean:
    """Running mean of models that are added one at a time.

    It stores the sum of the differences from the first model, in float32 (float64 for float64 tensors). A weight that
    is equal in all models therefore stays exactly the same, which `(x + x + x) / 3` does not guarantee. Only this sum
    and the current tensor are held in memory; the first model is read again when the mean is computed.

    Args:
        theta: Weights of the first model, name -> tensor.

    Example:
        >>> mean = RunningMean({"w": torch.tensor([1.0])})
        >>> mean.add({"w": torch.tensor([2.0])})
        >>> mean.mean(), mean.mean({"w": torch.tensor([6.0])})
        ({'w': tensor([1.5000])}, {'w': tensor([3.])})
    """

    def __init__(self, theta: Weights) -> None:
        self.count = 1
        self._first = theta
        self._headers = headers_of(theta)
        self._totals: dict[str, Tensor] = {}

    def add(self, theta: Weights, name: str = "theta") -> None:
        """Add a model, called `name` in error messages.

        Raises:
            InputError: If the model is not compatible with the first model, or an integer tensor differs.
        """
        check_compatible(self._headers, theta, name)
        for tensor in self._headers:
            self._totals[tensor] = self._total(tensor, theta)
        self.count += 1

    def mean(self, theta: Weights | None = None, name: str = "theta") -> dict[str, Tensor]:
        """Return the mean of the models so far and, if given, `theta`, which is not added permanently.

        Raises:
            InputError: Same as for `add`.
        """
        if theta is None:
            return {
                tensor: add(x, self._totals[tensor] / self.count) if self.count > 1 else x.detach().clone()
                for tensor, x in self._first.items()
            }
        check_compatible(self._headers, theta, name)
        return {tensor: add(x, self._total(tensor, theta) / (self.count + 1)) for tensor, x in self._first.items()}

    def _total(self, tensor: str, theta: Weights) -> Tensor:
        tau = subtract(tensor, self._first[tensor], theta[tensor])
        return tau + self._totals[tensor] if tensor in self._totals else tau
