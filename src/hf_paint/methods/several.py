"""Methods for several fine-tuned models: soups, Model Stock, and what is done with task vectors."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.learned_soups import learned_soup
from hf_paint.methods.base import Bench, Method, Weights
from hf_paint.model_stock import interpolate_model_stock
from hf_paint.soups import greedy_soup, uniform_soup
from hf_paint.task_arithmetic import add_task_vectors, check_density, dare, ties
from hf_paint.weights.layers import layer_index


Score = Literal["patching", "selection"]


@dataclass(frozen=True, kw_only=True)
class Several(Method):
    """A method that makes theta_1 of several fine-tuned models."""

    takes: ClassVar[str] = "several"
    merges: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class UniformSoup(Several):
    """The mean of all models."""

    name: ClassVar[str] = "uniform_soup"
    end: ClassVar[str] = "soup"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the soup."""
        return uniform_soup(thetas)

    def sentence(self) -> str:
        """Return what the soup is."""
        return "`theta_1` is the mean of all fine-tuned models (a uniform soup)."


@dataclass(frozen=True, kw_only=True)
class GreedySoup(Several):
    """The mean of the models that help.

    Attributes:
        score: What has to rise on the validation images: the mean accuracy on the `patching` tasks, or what the
            `selection` rule looks at.
    """

    name: ClassVar[str] = "greedy_soup"
    end: ClassVar[str] = "soup"
    needs_validation: ClassVar[bool] = True
    score: Score = "patching"

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            hint = did_you_mean(str(self.score), get_args(Score))
            raise InputError(f"`score` of the method '{self.name}' must be patching or selection.{hint}")

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the soup; every score is kept as soon as it is known."""
        return greedy_soup(thetas, lambda theta: bench.score(theta, self.score), log=bench.scores).theta

    def sentence(self) -> str:
        """Return what the soup is."""
        what = "the patching accuracy" if self.score == "patching" else "what the selection rule looks at"
        return (
            "`theta_1` is the mean of those fine-tuned models which, added from the best to the worst, raised "
            f"{what} on the validation images (a greedy soup)."
        )


@dataclass(frozen=True, kw_only=True)
class LearnedSoup(Several):
    """The mean whose coefficients are trained on the validation images of the patching tasks."""

    name: ClassVar[str] = "learned_soup"
    end: ClassVar[str] = "soup"
    needs_validation: ClassVar[bool] = True
    steps: int = 100
    learning_rate: float = 0.05
    by_layer: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1 or not self.learning_rate > 0:
            given = f"{self.steps} and {self.learning_rate}"
            raise InputError(
                f"The method '{self.name}' needs `steps` from 1 and a `learning_rate` above 0, got {given}."
            )

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the soup."""
        loaded = {name: {key: x.to(bench.device) for key, x in theta.items()} for name, theta in thetas.items()}
        options = {"group": layer_index} if self.by_layer else {}
        soup = learned_soup(loaded, bench.loss, steps=self.steps, learning_rate=self.learning_rate, **options)
        return soup.theta

    def sentence(self) -> str:
        """Return what the soup is."""
        each = "each layer of each" if self.by_layer else "each"
        return (
            f"`theta_1` is a weighted mean of the fine-tuned models; the weight of {each} was trained for "
            f"{self.steps} steps on the validation images (a learned soup)."
        )


@dataclass(frozen=True, kw_only=True)
class ModelStock(Several):
    """As far towards the mean as the angle between the models says."""

    name: ClassVar[str] = "model_stock"
    end: ClassVar[str] = "Model Stock"
    chooses: ClassVar[bool] = True
    by_layer: bool = False

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return the interpolation with the mean."""
        return interpolate_model_stock(theta_0, thetas, **({"group": layer_index} if self.by_layer else {}))

    def sentence(self) -> str:
        """Return where theta_1 is."""
        each = "layer" if self.by_layer else "tensor"
        return (
            "`theta_1` is between `theta_0` and the mean of the fine-tuned models, as far as the angle between them "
            f"says for each {each} (Model Stock)."
        )


@dataclass(frozen=True, kw_only=True)
class TaskArithmetic(Several):
    """The sum of the task vectors, with one coefficient."""

    name: ClassVar[str] = "task_arithmetic"
    end: ClassVar[str] = "sum"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and all task vectors."""
        return add_task_vectors(theta_0, thetas, 1.0)

    def sentence(self) -> str:
        """Return what alpha scales."""
        return "`theta_1 - theta_0` is the sum of the changes of the fine-tuned models (task arithmetic)."


@dataclass(frozen=True, kw_only=True)
class Ties(Several):
    """Task vectors without their interference."""

    name: ClassVar[str] = "ties"
    end: ClassVar[str] = "TIES"
    density: float = 0.2

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and the merged task vector."""
        return ties(theta_0, thetas, density=self.density)

    def sentence(self) -> str:
        """Return what is kept."""
        return (
            "`theta_1 - theta_0` is what is left of the changes of the fine-tuned models after trimming each to its "
            f"largest {100 * self.density:g} % and electing a sign for each weight (TIES)."
        )


@dataclass(frozen=True, kw_only=True)
class Dare(Several):
    """The sum of task vectors of which most entries are dropped."""

    name: ClassVar[str] = "dare"
    end: ClassVar[str] = "DARE"
    density: float = 0.1
    seed: int = 0

    def __post_init__(self) -> None:
        check_density(self.density)

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], bench: Bench) -> dict[str, Tensor]:
        """Return theta_0 and the thinned task vectors."""
        return dare(theta_0, thetas, density=self.density, seed=self.seed)

    def sentence(self) -> str:
        """Return what is kept."""
        return (
            "`theta_1 - theta_0` is the sum of the changes of the fine-tuned models, of which a random "
            f"{100 * self.density:g} % of the entries were kept and scaled up (DARE, seed {self.seed})."
        )
