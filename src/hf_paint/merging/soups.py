"""Model soups: the mean of fine-tuned models, of all or of those that help (Wortsman et al., ICML 2022)."""

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import Bench, Several
from hf_paint.merging.interpolation import Weights, add, subtract
from hf_paint.weights.compatibility import check_compatible


SEPARATOR = " + "
"""What is between the names of a soup's ingredients in a log."""


Score = Literal["patching", "selection"]


@dataclass(frozen=True, slots=True, eq=False)
class GreedySoupResult:
    """A greedy soup.

    Attributes:
        theta: Its weights, name -> tensor.
        ingredients: The models whose mean it is, in the order in which they were added.
        score: Its score.
    """

    theta: dict[str, Tensor]
    ingredients: tuple[str, ...]
    score: float


def uniform_soup(thetas: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Return the mean of fine-tuned models (Wortsman et al., 2022, Section 2: uniform soup).

    In memory are the soup and its running sum; models that are read lazily (`LazyWeights`) take no more.

    Args:
        thetas: Model -> its weights, with the same names, shapes and dtypes.

    Returns:
        name -> tensor, in the dtypes of the inputs. A weight that is equal in all models is unchanged, bit for bit.

    Raises:
        InputError: If there is no model, the weights do not fit together, or an integer tensor differs.

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
    """Average fine-tuned models, the best first, as long as each one helps (Wortsman et al., 2022, Recipe 1).

    The models are sorted by their scores; each in turn joins the soup if that raises the score of the soup. A score
    that stays the same does not count, as in the released code; the recipe in the paper lets it count. The soup is
    never worse than the best model on the data of the score, which must not be test data.

    In memory are the running sum, the soup that is being scored and one tensor, if the models are read lazily.

    Args:
        thetas: Model -> its weights, with the same names, shapes and dtypes. Of equal scores the former goes first.
        score: Weights -> a number that is higher for better weights, such as the validation accuracy.
        log: Names of ingredients, joined by " + " -> score. What it knows is not evaluated again, and every new score
            goes in as soon as it is known: keep it on disk, and a search that was interrupted goes on. It knows
            the names of the models and not their weights: other models need another log.

    Raises:
        InputError: If there is no model, the weights do not fit together, or a score is not finite.

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
    """Refuse a soup of no model, and names that a log could not tell apart from those of soups."""
    if not names:
        raise InputError("A soup needs at least one model.")
    for name in names:
        if SEPARATOR in name:
            raise InputError(f"The name of a model must not hold '{SEPARATOR}', got '{name}'.")


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise InputError(f"The score of '{name}' must be a finite number, got {score}.")
    return float(score)


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


class RunningMean:
    """A mean that grows by one set of weights at a time.

    It is kept as the sum of the differences to the first, in float32 (float64 for float64 tensors), so that a weight
    that is equal in all is unchanged, which `(x + x + x) / 3` does not promise. In memory are that sum and the tensor
    that is being read; the first is read again where its tensors are needed.

    Args:
        theta: The first set of weights, name -> tensor.

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
        """Let one more set of weights count; `name` is what messages call it.

        Raises:
            InputError: If it does not fit to the first, or an integer tensor differs.
        """
        check_compatible(self._headers, theta, name)
        for tensor in self._headers:
            self._totals[tensor] = self._total(tensor, theta)
        self.count += 1

    def mean(self, theta: Weights | None = None, name: str = "theta") -> dict[str, Tensor]:
        """Return the mean, or what it would be with one more set of weights.

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
