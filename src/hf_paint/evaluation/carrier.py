"""The sweep: every alpha on every task, each (weights, task) evaluated once (PAINT, Section 2)."""

from collections.abc import Mapping
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.fingerprints import fingerprint_combination, fingerprint_weights
from hf_paint.merging.interpolation import combine_into
from hf_paint.merging.path import WeightPath
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.weights.compatibility import check_compatible, tensor_specs


class Models(Protocol):
    """The models of all alphas."""

    def at(self, alpha: Alpha) -> nn.Module:
        """Return the model of an alpha, which carries its weights until the next call."""

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of these weights, without computing them."""


class WeightSpan:
    """The models `theta_0 + sum_i alpha_i (theta_i - theta_0)`, carried by one whose weights are overwritten in place.

    Args:
        theta_0: The image tower before fine-tuning, name -> tensor.
        thetas: Model -> its image tower after fine-tuning; tensors are read one at a time, when they are needed.
        model: The image tower that is copied.
        evaluator: Says on which device and in which dtype the copy is.

    Raises:
        InputError: If the weights do not fit together.
    """

    def __init__(
        self,
        theta_0: Mapping[str, Tensor],
        thetas: Mapping[str, Mapping[str, Tensor]],
        model: nn.Module,
        evaluator: Evaluator,
    ) -> None:
        for name, theta in thetas.items():
            check_compatible(tensor_specs(theta_0), tensor_specs(theta), name)
        self._ends = {name: fingerprint_weights(theta) for name, theta in thetas.items()}
        self._start = fingerprint_weights(theta_0)
        self.theta_0, self.thetas = theta_0, thetas
        self._tower = evaluator.carrier(model)
        self._weights = self._tower.state_dict()
        self._alpha: Alpha | None = None

    def at(self, alpha: Alpha) -> nn.Module:
        """Return the model, which carries these weights until the next call."""
        if alpha != self._alpha:
            combine_into(self._weights, self.theta_0, self.thetas, self._coefficients(alpha))
            self._alpha = alpha
        return self._tower

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of these weights, without computing them."""
        return fingerprint_combination(self._start, self._ends, self._coefficients(alpha))

    def _coefficients(self, alpha: Alpha) -> Mapping[str, float]:
        """Return one coefficient per model; a model that is not named takes no part, a number is for all of them."""
        named = alpha if isinstance(alpha, Coefficients) else dict.fromkeys(self.thetas, alpha)
        return {name: named.get(name, 0.0) for name in self.thetas}


class PathModels:
    """The models on a path, carried by one whose weights are overwritten in place.

    Args:
        path: Gives the weights.
        model: The image tower that is copied.
        evaluator: Says on which device and in which dtype the copy is.
    """

    def __init__(self, path: WeightPath, model: nn.Module, evaluator: Evaluator) -> None:
        self.path = path
        self._tower = evaluator.carrier(model)
        self._alpha: Alpha | None = None

    def at(self, alpha: Alpha) -> nn.Module:
        """Return the model, which carries these weights until the next call."""
        if alpha != self._alpha:
            self._tower.load_state_dict(self.path.at(cast(float, alpha)), strict=False)
            self._alpha = alpha
        return self._tower

    def fingerprint(self, alpha: Alpha) -> str:
        """Return the fingerprint of these weights, without computing them."""
        return self.path.fingerprint(cast(float, alpha))


def weight_line(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], model: nn.Module, evaluator: Evaluator
) -> WeightSpan:
    """Return the line from theta_0 to theta_1, both ends on the GPU of the evaluations if they fit beside the model.

    Elsewhere they stay where they are, which may be on disk: they are read one tensor at a time.
    """
    device = evaluator.accelerator.device
    ends = [theta_0, theta_1]
    if device.type == "cuda" and sum(x.nbytes for end in ends for x in end.values()) < _free_memory(device) / 2:
        ends = [{name: tensor.to(device) for name, tensor in end.items()} for end in ends]
    return WeightSpan(ends[0], {"theta_1": ends[1]}, model, evaluator)


def _free_memory(device: torch.device) -> int:
    """Return the bytes of a GPU that nobody uses, with those that torch keeps for later."""
    free, _ = torch.cuda.mem_get_info(device)
    return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
