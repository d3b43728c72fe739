"""Model soups: the mean of all fine-tuned models, or only of models that improve it (Wortsman et al., ICML 2022)."""

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import Measurements, Several
from hf_paint.merging.interpolation import Weights, add, subtract
from hf_paint.weights.compatibility import check_compatible


SEPARATOR = " + "
"""The separator of the names of a soup's ingredients in a log."""


Score = Literal["patching", "selection"]


@dataclass(frozen=True, slots=True, eq=False)
class GreedySoupResult:
    """A greedy soup.

    Attributes:
        theta: Its weights, name -> tensor.
        ingredients: The names of the averaged models, in the order in which they were added.
        score: Its score.
    """

    theta: dict[str, Tensor]
    ingredients: tuple[str, ...]
    score: float


def uniform_soup(thetas: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Return the mean of fine-tuned models (Wortsman et al., 2022, Section 2: uniform soup).

    The soup and its running sum are in memory; models that are read lazily (`LazyWeights`) need no more memory.

    Args:
        thetas: Model -> its weights, with the same names, shapes and dtypes.

    Returns:
        name -> tensor, in the dtypes of the inputs. A weight that is equal in all models is unchanged, bit for bit.

    Raises:
        InputError: If there is no model, the weights are not compatible, or an integer tensor differs.

    Example:
        >>> uniform_soup({"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([2.0])}})
        {'w': tensor([1.5000])}
    """
    check_names(thetas)
    (_, first), *others = thetas.items()
    mean = RunningMean(first)
    for name, theta in others:
        mean.add(theta, name)
    return mean.mean()


def greedy_soup(
    thetas: Mapping[str, Weights],
    score: Callable[[Weights], float],
    *,
    log: MutableMapping[str, float] | None = None,
) -> GreedySoupResult:
    """Average the fine-tuned models that improve the soup, the best first (Wortsman et al., 2022, Recipe 1).

    In descending order of score, each model joins the soup if it raises the score of the soup. An equal score is not
    enough, as in the released code; it is enough in the recipe of the paper. On the data of the score, which must not
    be test data, the soup is at least as good as the best model.

    If the models are read lazily, only the running sum, the current soup and one tensor are in memory.

    Args:
        thetas: Model -> its weights, with the same names, shapes and dtypes. Models with equal scores keep this order.
        score: Weights -> a number that is higher for better weights, such as the validation accuracy.
        log: Names of ingredients, joined by " + " -> score. Logged scores are not computed again, and each new score
            is logged at once, so an interrupted search resumes if the log is on disk. The log identifies models by
            name, not by their weights: use a new log for other models.

    Raises:
        InputError: If there is no model, the weights are not compatible, or a score is not finite.

    Example:
        >>> thetas = {name: {"w": torch.tensor([w])} for name, w in {"a": 1.0, "b": 5.0, "c": 2.0}.items()}
        >>> soup = greedy_soup(thetas, lambda theta: -abs(float(theta["w"]) - 1.6))
        >>> soup.ingredients, soup.theta
        (('c', 'a'), {'w': tensor([1.5000])})
    """
    check_names(thetas)
    log = {} if log is None else log
    for name, theta in thetas.items():
        if name not in log:
            log[name] = _finite(score(theta), name)
    best, *others = sorted(thetas, key=lambda name: -log[name])
    ingredients, soup = best, RunningMean(thetas[best])
    for name in others:
        candidate = ingredients + SEPARATOR + name
        if candidate not in log:
            log[candidate] = _finite(score(soup.mean(thetas[name], name)), candidate)
        if log[candidate] > log[ingredients]:
            soup.add(thetas[name], name)
            ingredients = candidate
    return GreedySoupResult(soup.mean(), tuple(ingredients.split(SEPARATOR)), log[ingredients])


def check_names(names: Collection[str]) -> None:
    """Check that there is a model, and that no name could be mistaken for a soup in a log."""
    if not names:
        raise InputError("A soup needs at least one model.")
    for name in names:
        if SEPARATOR in name:
            raise InputError(f"The name of a model must not contain '{SEPARATOR}', got '{name}'.")


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise InputError(f"The score of '{name}' must be a finite number, got {score}.")
    return float(score)


@dataclass(frozen=True, kw_only=True)
class UniformSoup(Several):
    """The mean of all fine-tuned models."""

    name: ClassVar[str] = "uniform_soup"
    end: ClassVar[str] = "soup"

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the soup."""
        return uniform_soup(thetas)

    def sentence(self) -> str:
        """Return the description, with the ingredients of the soup."""
        return "`theta_1` is a uniform soup: the mean of all fine-tuned models."


@dataclass(frozen=True, kw_only=True)
class GreedySoup(Several):
    """The mean of the fine-tuned models that improve it.

    Attributes:
        score: The score on the validation images: the mean accuracy on the `patching` tasks, or the score of the
            `selection` rule.
    """

    name: ClassVar[str] = "greedy_soup"
    end: ClassVar[str] = "soup"
    needs_validation: ClassVar[bool] = True
    score: Score = "patching"

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            hint = did_you_mean(str(self.score), get_args(Score))
            raise InputError(f"`score` of the method '{self.name}' must be patching or selection.{hint}")

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the soup; each score is saved as soon as it is known."""
        return greedy_soup(thetas, lambda theta: measurements.score(theta, self.score), log=measurements.scores).theta

    def sentence(self) -> str:
        """Return the description, with the ingredients of the soup."""
        score = "patching accuracy" if self.score == "patching" else "score of the selection rule"
        return (
            "`theta_1` is a greedy soup: the mean of the fine-tuned models that, added from the best to the worst, "
            f"raised the {score} on the validation images."
        )


class RunningMean:
    """A mean to which one model is added at a time.

    It stores the sum of the differences to the first model, in float32 (float64 for float64 tensors): a weight that is
    equal in all models is unchanged, which `(x + x + x) / 3` does not guarantee. Only this sum and the current tensor
    are in memory; the tensors of the first model are read again on demand.

    Args:
        theta: The weights of the first model, name -> tensor.

    Example:
        >>> mean = RunningMean({"w": torch.tensor([1.0])})
        >>> mean.add({"w": torch.tensor([2.0])})
        >>> mean.mean(), mean.mean({"w": torch.tensor([6.0])})
        ({'w': tensor([1.5000])}, {'w': tensor([3.])})
    """

    def __init__(self, theta: Weights) -> None:
        self.count = 1
        self._first = theta
        self._headers = {name: tensor.to("meta") for name, tensor in theta.items()}  # shapes and dtypes alone
        self._totals: dict[str, Tensor] = {}

    def add(self, theta: Weights, name: str = "theta") -> None:
        """Add a model; `name` is its name in messages.

        Raises:
            InputError: If it is not compatible with the first model, or an integer tensor differs.
        """
        check_compatible(self._headers, theta, name)
        for tensor in self._headers:
            self._totals[tensor] = self._total(tensor, theta)
        self.count += 1

    def mean(self, theta: Weights | None = None, name: str = "theta") -> dict[str, Tensor]:
        """Return the mean, or the mean with one more model, which is not added.

        Raises:
            InputError: As `add`.
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
