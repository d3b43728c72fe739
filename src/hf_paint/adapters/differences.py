"""Exact differences of weights, and the fingerprint of the image tower that they start from."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from hf_paint.fingerprints import fingerprint_weights


CODES = {"float32": "F32", "bfloat16": "BF16"}
"""Patch dtype -> its name in a safetensors header."""


def tower_fingerprint(tower: Mapping[str, Tensor]) -> str:
    """Return the fingerprint of an image tower in float32, by which a change knows its base."""
    return fingerprint_weights(_Widened(tower))


class _Widened(Mapping[str, Tensor]):
    """Tensors as float32, converted one at a time."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name].float()

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def exact_difference(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return `x_1 - x_0` in float32, with -0.0 for equal weights, as adding -0.0 leaves every weight as it is."""
    return (x_1.float() - x_0.float()).masked_fill_(is_same(x_0, x_1), -0.0)


def is_same(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return a mask of the elements that are bitwise equal in float32."""
    return x_0.float().view(torch.int32) == x_1.float().view(torch.int32)
