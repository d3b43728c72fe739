"""What a method is: options, and what it does with the weights that fine-tuning gave."""

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor


Weights = Mapping[str, Tensor]


class WeightPath(Protocol):
    """The weights between theta_0 (alpha 0) and theta_1 (alpha 1), where they are no straight line."""

    def at(self, alpha: float) -> dict[str, Tensor]:
        """Return theta_alpha, name -> tensor."""

    def fingerprint(self, alpha: float) -> str:
        """Return the fingerprint of theta_alpha, without computing it."""
