"""The interface of a method: its options, and how it turns fine-tuned models into a path from theta_0."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line, WeightPath
from hf_paint.results.run_folder import RunFolder


LINE = "`(1 - alpha) * theta_0 + alpha * theta_1`"


class Information(Protocol):
    """The measurements that a path may need besides the weights at its two ends."""

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information of weights on training images of the patching tasks."""


class RecordedInformation:
    """The Fisher information in the folder of a finished run.

    Args:
        folder: The run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the recorded Fisher information."""
        return load_file(self.folder.fisher(name))


class Measurements(Information, Protocol):
    """The measurements that a run provides to its method.

    Attributes:
        scores: Names of models, joined by " + " -> the score of their mean; saved as soon as a value is set.
        device: The device of the run.
    """

    scores: MutableMapping[str, float]
    device: torch.device

    def score(self, theta: Weights, rule: str) -> float:
        """Return the score of weights on validation images: patching accuracy, or the score of the selection rule."""

    def losses(self) -> Callable[[Weights], Tensor]:
        """Return the cross-entropy on the patching tasks, differentiable in the weights, on a new batch per call."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """A method: it merges fine-tuned models into theta_1, and defines the path from theta_0 to it.

    The fields of a subclass are the options of the method.

    Attributes:
        name: The name in recipes.
        end: The name of theta_1 in tables.
        takes: The number of fine-tuned models, `one` or `several`.
        merges: Whether theta_1 is computed from the fine-tuned models; otherwise theta_1 is the only one.
        needs_validation: Whether `merge` needs validation images of the patching tasks.
        chooses: Whether the method itself determines the distance from theta_0; without a selection rule, theta_1 is
            saved.
        formula: The formula of theta_alpha, for the cards; empty if `sentence` contains it.
        extrapolates: Whether alpha may lie outside [0, 1].
        is_line: Whether the path is a straight line, so any alpha can be computed from file to file.
        spans: Whether several fine-tuned models may each have a coefficient (`strategy: parallel`).
    """

    name: ClassVar[str]
    end: ClassVar[str] = "fine-tuned"
    takes: ClassVar[str] = "one"
    merges: ClassVar[bool] = False
    needs_validation: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    formula: ClassVar[str] = LINE
    extrapolates: ClassVar[bool] = True
    is_line: ClassVar[bool] = True
    spans: ClassVar[bool] = False

    def check(self, theta_0: Weights) -> None:
        """Check the options against the names of the weights, before any training.

        Raises:
            InputError: If an option is not compatible with the model.
        """

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callbacks of each fine-tuning."""
        return []

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_1, merged from the fine-tuned models; by default, the only one."""
        (theta,) = thetas.values()
        return dict(theta)

    def path(self, theta_0: Weights, theta_1: Weights, information: Information) -> WeightPath:
        """Return the path from theta_0 to theta_1: a straight line for most methods."""
        return Line(theta_0, theta_1)

    def sentence(self) -> str:
        """Return the description for a model card, which follows the sentence on fine-tuning and interpolation."""
        return ""

    def to_recipe(self) -> dict[str, dict[str, object]]:
        """Return the method as in a recipe, with every option."""
        return {self.name: asdict(self)}


def check_share(method: str, option: str, value: float) -> None:
    """Check that an option is a number in [0, 1].

    Raises:
        InputError: If it is not.
    """
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"`{option}` of the method '{method}' must be in [0, 1], got {value!r}.")


@dataclass(frozen=True, kw_only=True)
class Interpolate(Method):
    """The straight line from theta_0 to the fine-tuned model (PAINT, Section 2; WiSE-FT, Section 3)."""

    name: ClassVar[str] = "interpolate"
    spans: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class Several(Method):
    """A method that merges several fine-tuned models into theta_1."""

    takes: ClassVar[str] = "several"
    merges: ClassVar[bool] = True
