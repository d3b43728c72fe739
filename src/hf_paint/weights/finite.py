"""NaN and inf among weights: refused where they are read or made, by the name of the tensor."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from hf_paint.errors import InputError
from hf_paint.weights.compatibility import headers_of


if TYPE_CHECKING:
    from torch import Tensor


def is_finite(x: "Tensor") -> bool:
    """Return whether a tensor holds neither NaN nor inf, in one pass. Integers never do.

    Example:
        >>> is_finite(torch.tensor([1.0, 2.0])), is_finite(torch.tensor([1.0, torch.nan]))
        (True, False)
    """
    if not x.is_floating_point():
        return True
    return bool(x.detach().sum().isfinite()) or bool(x.isfinite().all())  # the sum of large numbers may be inf


def finite(name: str, x: "Tensor", owner: str) -> "Tensor":
    """Return a tensor that holds neither NaN nor inf.

    Args:
        name: Name of the tensor.
        x: The tensor.
        owner: What it belongs to, for messages: the name or the folder of a model.

    Raises:
        InputError: If it holds NaN or inf.
    """
    if not is_finite(x):
        raise not_finite(name, owner)
    return x


def not_finite(name: str, owner: str) -> InputError:
    """Return the error for a tensor that holds NaN or inf."""
    return InputError(
        f"'{name}' of {owner} holds NaN or inf: its training diverged, or its file is damaged. Leave it out, or make "
        "it again."
    )


def overflow(name: str, dtype: object) -> InputError:
    """Return the error for a tensor of finite numbers some of which a dtype cannot hold."""
    return InputError(
        f"'{name}' holds numbers that are too large for {str(dtype).removeprefix('torch.')}. Set "
        "`save_dtype: bfloat16` or `save_dtype: float32`."
    )


def in_range(name: str, x: "Tensor") -> "Tensor":
    """Return a tensor that was computed from finite ones.

    Raises:
        InputError: If its dtype cannot hold some of its numbers.
    """
    if not is_finite(x):
        raise overflow(name, x.dtype)
    return x


class FiniteWeights(Mapping[str, "Tensor"]):
    """Weights whose tensors are checked when they are read for the first time.

    Args:
        weights: Name -> tensor.
        owner: Name of the model for messages.

    Attributes:
        is_checked: That these weights refuse NaN and inf by themselves.
    """

    is_checked = True

    def __init__(self, weights: Mapping[str, "Tensor"], owner: str) -> None:
        self._weights, self._owner, self.headers = weights, owner, headers_of(weights)
        self._known: set[str] = set()

    def __getitem__(self, name: str) -> "Tensor":
        x = self._weights[name]
        if name not in self._known:
            finite(name, x, self._owner)
            self._known.add(name)
        return x

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def checked(weights: Mapping[str, "Tensor"], owner: str) -> Mapping[str, "Tensor"]:
    """Return weights whose tensors are checked once when they are read; those that do so by themselves, unchanged."""
    return weights if getattr(weights, "is_checked", False) else FiniteWeights(weights, owner)


def all_finite(thetas: Mapping[str, Mapping[str, "Tensor"]]) -> dict[str, Mapping[str, "Tensor"]]:
    """Return models whose tensors are checked when they are read, model -> weights."""
    return {model: checked(theta, model) for model, theta in thetas.items()}
