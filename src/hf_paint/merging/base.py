"""What a method is: options, and what it does with the weights that fine-tuning gave."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.merging.path import WeightPath, Weights


class Bench(Protocol):
    """What a method may ask of the run that it is used in: measurements, which the run keeps.

    Attributes:
        scores: Names of models, joined by " + " -> the score of their mean; it is kept on disk.
        device: The device of the run.
    """

    scores: MutableMapping[str, float]
    device: torch.device

    def score(self, theta: Weights, rule: str) -> float:
        """Return how good weights are on the validation images: of the patching tasks, or by the selection rule."""

    def losses(self) -> Callable[[Weights], Tensor]:
        """Return the cross-entropy on the patching tasks, differentiable in the weights, of a new batch each call."""

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information of weights on training images of the patching tasks."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method; its fields are its options, and alpha goes from theta_0 to the theta_1 that it makes.

    Attributes:
        name: What recipes call it.
        end: What tables call its theta_1.
        takes: How many fine-tuned models it is for, `one` or `several`.
        merges: Whether theta_1 is made of the fine-tuned models, instead of being the one that there is.
        needs_validation: Whether making theta_1 takes validation images of the patching tasks.
        chooses: Whether theta_1 is how far to go: without a selection rule, it is what is saved.
        is_line: Whether theta_alpha is on the straight line from theta_0 to theta_1.
    """

    name: ClassVar[str]
    end: ClassVar[str] = "fine-tuned"
    takes: ClassVar[str] = "one"
    merges: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    is_line: ClassVar[bool] = True

    def check(self, theta_0: Weights) -> None:
        """Refuse options that do not fit to the model, before anything is trained."""

    def callbacks(self) -> list[TrainerCallback]:
        """Return what takes part in each fine-tuning."""
        return []

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_1, made of the fine-tuned models: the one that there is."""
        (theta,) = thetas.values()
        return dict(theta)

    def path(self, theta_0: Weights, theta_1: Weights, bench: Bench) -> WeightPath | None:
        """Return the path from theta_0 to theta_1, or None for the straight line."""
        return None

    def sentence(self) -> str:
        """Return what a card says of it, after the sentence on fine-tuning and interpolating."""
        return ""

    def to_recipe(self) -> dict[str, dict[str, Any]]:
        """Return it as a recipe holds it, every option written out."""
        return {self.name: asdict(self)}


def check_share(method: str, option: str, value: float) -> None:
    """Refuse an option outside [0, 1].

    Raises:
        InputError: If it is.
    """
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"`{option}` of the method '{method}' must be in [0, 1], got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Interpolate(Method):
    """The straight line from theta_0 to the fine-tuned model (PAINT, Section 2; WiSE-FT, Section 3)."""

    name: ClassVar[str] = "interpolate"


@dataclass(frozen=True, kw_only=True)
class Several(Method):
    """A method that makes theta_1 of several fine-tuned models."""

    takes: ClassVar[str] = "several"
    merges: ClassVar[bool] = True
