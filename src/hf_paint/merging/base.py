"""Base class for merging methods, which turn fine-tuned models into a path of weights starting at theta_0."""

from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line, WeightPath


ImageSplit = Literal["validation", "train"]
AnySplit = Literal["validation", "train", "test"]
LINE = "`(1 - alpha) * theta_0 + alpha * theta_1`"


class Information(Protocol):
    """Measurements that a path may need in addition to the weights at its two ends."""

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information of `theta` on training images of the patching tasks.

        Args:
            name: `theta_0` or `theta_1`.
            theta: Weights, name -> tensor.
            num_images: Number of training images to estimate it on.
            seed: Random seed.
        """


class Loss(Protocol):
    """Cross-entropy on the patching tasks, differentiable with respect to the weights and the temperature."""

    def __call__(self, theta: Weights, beta: Tensor | float = 1.0) -> Tensor:
        """Return the cross-entropy of `softmax(beta * logits)` on the next batch, shape ()."""


class Measurements(Information, Protocol):
    """Measurements that a run provides to its method.

    Attributes:
        scores: Model names joined by " + " -> score of their mean. Every new value is saved immediately.
        device: Device the run uses.
    """

    scores: MutableMapping[str, float]
    device: torch.device

    def score(self, theta: Weights, rule: str) -> float:
        """Return the validation score of `theta`: patching accuracy, or the score the selection rule assigns to it."""

    def choose(self, methods: Mapping[str, "Method"], thetas: Mapping[str, Weights]) -> "Method":
        """Return the merge of `thetas` that does best on the validation images.

        Args:
            methods: Label -> merge to try.
            thetas: Model -> weights after fine-tuning.
        """

    def losses(self, images: ImageSplit = "validation") -> Loss:
        """Return a function that computes the cross-entropy on the patching tasks, drawing a new batch on every call.

        Args:
            images: Split from which the batches are drawn.
        """

    def entropies(self, images: AnySplit = "validation") -> Callable[[Weights], Tensor]:
        """Return a function that computes the entropy of predictions, drawing a new batch of images on every call.

        It is in nats, summed over the patching tasks, and differentiable with respect to the weights; no label is
        read.

        Args:
            images: Split from which the batches are drawn.
        """

    def record(self, coefficients: Mapping[str, Mapping[str, float]]) -> None:
        """Save learned coefficients: name of a group of tensors -> model -> coefficient."""

    def grams(self, name: str, theta: Weights, *, num_images: int, seed: int) -> Weights:
        """Return the Gram matrices of a fine-tuned model on training images of its task, for `regmean`.

        Args:
            name: Name of the model.
            theta: Its weights, name -> tensor.
            num_images: Number of images to measure them on.
            seed: Random seed for drawing the images.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How often a method calls each of its `Measurements`, at most.

    Attributes:
        scores: Number of models that are scored on the validation images.
        scored: Whose validation images these are: those of the `patching` tasks, or of `all`.
        losses: Number of batches of each patching task, forwards and backwards, for the cross-entropy.
        entropies: The same for the entropy.
        grams: Number of training images that each model passes over, for the inputs of its layers.
        fisher: Number of training images that theta_0 and theta_1 pass over, for their Fisher information.
    """

    scores: int = 0
    scored: Literal["patching", "all"] = "patching"
    losses: int = 0
    entropies: int = 0
    grams: int = 0
    fisher: int = 0


@dataclass(frozen=True, kw_only=True)
class Method:
    """Base class for methods that merge fine-tuned models into theta_1 and define the path from theta_0 to theta_1.

    The fields of a subclass are the options of the method.

    Attributes:
        name: Name used in recipes.
        end: Name used for theta_1 in tables.
        takes: Number of fine-tuned models the method expects, `one` or `several`.
        merges: Whether the method computes theta_1. If False, theta_1 is the fine-tuned model itself.
        samples_labels: Whether `path` samples class labels, so that every patching task must have classes.
        reads_labels: Whether what the method measures on images needs their labels.
        reads_entropy: Whether the method needs the entropy of predictions, which multi-label tasks do not have.
        chooses: Whether the method itself decides how far theta_1 is from theta_0. If so, theta_1 is saved when there
            is no selection rule.
        formula: Formula for theta_alpha to show on model cards. Empty if `sentence` already contains it.
        extrapolates: Whether alpha may be outside [0, 1].
        is_line: Whether the path is a straight line, so any alpha can be computed from file to file.
        spans: Whether several fine-tuned models can each have their own coefficient (`strategy: parallel`).
        cheap: Whether the method merges models of different tasks and needs no images, so that `auto` tries it.
        tries: Whether the method compares merges on the validation images, within the run's `search_budget`.
    """

    name: ClassVar[str]
    end: ClassVar[str] = "fine-tuned"
    takes: ClassVar[str] = "one"
    merges: ClassVar[bool] = False
    samples_labels: ClassVar[bool] = False
    reads_labels: ClassVar[bool] = False
    reads_entropy: ClassVar[bool] = False
    chooses: ClassVar[bool] = False
    formula: ClassVar[str] = LINE
    extrapolates: ClassVar[bool] = True
    is_line: ClassVar[bool] = True
    spans: ClassVar[bool] = False
    cheap: ClassVar[bool] = False
    tries: ClassVar[bool] = False

    @property
    def needs_validation(self) -> bool:
        """Whether the method needs validation images for the patching tasks."""
        return False

    @property
    def needs_train(self) -> bool:
        """Whether the method needs training images for the patching tasks, even if no model is fine-tuned."""
        return False

    @property
    def needs_test(self) -> bool:
        """Whether the method needs test images for the patching tasks."""
        return False

    @property
    def needs_selection(self) -> bool:
        """Whether the method needs a selection rule."""
        return False

    def measured(self, num_models: int) -> Measured:
        """Return what the method measures on images to merge a number of models. By default, this is nothing."""
        return Measured()

    def check(self, theta_0: Weights) -> None:
        """Check the options against the model's tensor names before training starts.

        Raises:
            InputError: If an option does not fit the model.
        """

    def callbacks(self) -> list[TrainerCallback]:
        """Return the callbacks to use when fine-tuning each model."""
        return []

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return theta_1. By default, this is the weights of the only fine-tuned model."""
        (theta,) = thetas.values()
        return dict(theta)

    def path(self, theta_0: Weights, theta_1: Weights, information: Information) -> WeightPath:
        """Return the path from theta_0 to theta_1. By default, this is a straight line."""
        return Line(theta_0, theta_1)

    def sentence(self) -> str:
        """Return text for the model card, inserted after the sentence on fine-tuning and interpolation."""
        return ""

    def to_recipe(self) -> dict[str, dict[str, object]]:
        """Return the method as it appears in a recipe, with all its options."""
        return {self.name: asdict(self)}


def check_share(method: str, option: str, value: float) -> None:
    """Check that an option is a number in [0, 1].

    Raises:
        InputError: If the value is not a number in [0, 1].
    """
    if not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise InputError(f"`{option}` of the method '{method}' must be a number in [0, 1], got {value!r}.")


def check_drawn(method: str, num_images: int, seed: int) -> None:
    """Check how many images a method draws, and the seed.

    Raises:
        InputError: If it draws no image, or the seed is negative.
    """
    if num_images < 1 or seed < 0:
        raise InputError(
            f"The method '{method}' needs `num_images` of at least 1 and a `seed` of at least 0, got {num_images} and "
            f"{seed}."
        )


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
