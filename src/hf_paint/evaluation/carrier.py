"""Image tower that loads the weights of one alpha after another."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from accelerate import Accelerator
from torch import nn

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line, WeightPath
from hf_paint.models.devices import free_memory
from hf_paint.results.alphas import Alpha


class Carrier:
    """Copy of an image tower into which the weights of each alpha are loaded in place.

    The weights that define the path are moved to the GPU used for evaluation if they fit next to the model. Otherwise
    they stay where they are, possibly on disk, and are read one tensor at a time.

    Args:
        path: Path that gives the weights for each alpha.
        tower: Image tower to copy.
        evaluator: Evaluator that runs the copy and determines its device and dtype.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> carrier = Carrier(Line(theta_0, theta_0), image_tower(model), Evaluator(Accelerator()))
        >>> carrier.at(0.5) is carrier.at(1.0)
        True
    """

    def __init__(self, path: WeightPath, tower: nn.Module, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self._tower = evaluator.carrier(tower)
        self._weights = self._tower.state_dict()
        self.follow(path)

    def follow(self, path: WeightPath) -> None:
        """Load the weights of this path from now on."""
        device = self.evaluator.accelerator.device
        self.path: WeightPath = path.to(device) if path.nbytes < free_memory(device) / 2 else path
        self._alpha: Alpha | None = None

    @classmethod
    def on_line(cls, theta_0: Weights, theta_1: Weights, tower: nn.Module, evaluator: Evaluator | None) -> Self:
        """Return a carrier for the line from theta_0 to theta_1. The default evaluator uses float32."""
        return cls(Line(theta_0, theta_1), tower, evaluator or Evaluator(Accelerator()))

    def at(self, alpha: Alpha) -> nn.Module:
        """Load the weights for this alpha and return the tower, which keeps them until the next call."""
        if alpha != self._alpha:
            self.path.write(alpha, self._weights)
            self._alpha = alpha
        return self._tower

    @contextmanager
    def passes(self, num_images: int) -> Iterator[None]:
        """Prepare for evaluating this number of images inside the block, counted at each alpha.

        On a GPU, the tower is compiled if that pays, and pixels are kept there between alphas.
        """
        self.evaluator.expect(self._tower, num_images)
        with self.evaluator.keeping_pixels():
            yield

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of the weights for an alpha, without computing the weights."""
        return self.path.fingerprint(alpha)
