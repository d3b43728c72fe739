"""Uniform and greedy model soups, which average fine-tuned models (Wortsman et al., ICML 2022)."""

import math
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from torch import Tensor

from hf_paint.errors import InputError, did_you_mean
from hf_paint.merging.base import Measured, Measurements, Several
from hf_paint.merging.interpolation import Weights, add, subtract
from hf_paint.merging.running_mean import RunningMean
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import all_finite


SEPARATOR = " + "
"""Separator between ingredient names in the keys of a score log."""


Score = Literal["patching", "selection"]


@dataclass(frozen=True, slots=True, eq=False)
class GreedySoupResult:
    """Result of `greedy_soup`.

    Attributes:
        theta: Weights of the soup, name -> tensor.
        ingredients: Names of the averaged models, in the order they were added.
        score: Score of the soup.
    """

    theta: dict[str, Tensor]
    ingredients: tuple[str, ...]
    score: float


def uniform_soup(thetas: Mapping[str, Weights]) -> dict[str, Tensor]:
    """Average the weights of all fine-tuned models (Wortsman et al., 2022, Section 2: uniform soup).

    Models that are read lazily (`LazyWeights`) are read once, one tensor at a time; the soup is held in memory.

    Args:
        thetas: Model -> weights. All models must have the same names, shapes and dtypes.

    Returns:
        name -> tensor, in the same dtypes as the inputs. A weight that is equal in all models stays unchanged, bit
        for bit.

    Raises:
        InputError: If there are no models, the weights are not compatible, or an integer tensor differs.

    Example:
        >>> uniform_soup({"a": {"w": torch.tensor([1.0])}, "b": {"w": torch.tensor([2.0])}})
        {'w': tensor([1.5000])}
    """
    check_names(thetas)
    (_, first), *others = all_finite(thetas).items()
    for model, theta in others:
        check_compatible(first, theta, model)
    return {name: _mean(name, x, [theta[name] for _, theta in others]) for name, x in first.items()}


def _mean(name: str, x_0: Tensor, others: Sequence[Tensor]) -> Tensor:
    """Return the mean of a tensor and others, which is bit-identical to it where all are equal."""
    if not others:
        return x_0.detach().clone()
    total = subtract(name, x_0, others[0])
    for x in others[1:]:
        total += subtract(name, x_0, x)
    return add(x_0, total.div_(1 + len(others)))


def greedy_soup(
    thetas: Mapping[str, Weights],
    score: Callable[[Weights], float],
    *,
    log: MutableMapping[str, float] | None = None,
) -> GreedySoupResult:
    """Average the fine-tuned models that improve the soup, best first (Wortsman et al., 2022, Recipe 1).

    Models are tried in descending order of score, and each one is added if it increases the score of the soup. If the
    score stays the same, the model is not added; this matches the released code but not the paper, which adds it. The
    soup scores at least as high as the best single model. Do not use test data to compute the score.

    If the models are read lazily, only the running sum, the current soup and one tensor are held in memory.

    Args:
        thetas: Model -> weights. All models must have the same names, shapes and dtypes. Models with equal scores are
            tried in the order given.
        score: Called as `score(theta)`; returns a number that is higher for better weights, e.g. validation accuracy.
        log: Ingredient names joined by " + " -> score. Scores in the log are reused, and new scores are added
            immediately, so an interrupted search can resume if the log is on disk. Models are identified by name
            only: use a new log if their weights change.

    Returns:
        The weights of the soup, in the dtypes of the models, its ingredients and its score.

    Raises:
        InputError: If there are no models, the weights are not compatible, or a score is not finite.

    Example:
        >>> thetas = {name: {"w": torch.tensor([w])} for name, w in {"a": 1.0, "b": 5.0, "c": 2.0}.items()}
        >>> soup = greedy_soup(thetas, lambda theta: -abs(float(theta["w"]) - 1.6))
        >>> soup.ingredients, soup.theta
        (('c', 'a'), {'w': tensor([1.5000])})
    """
    check_names(thetas)
    thetas, log = all_finite(thetas), {} if log is None else log
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
    """Check that there is at least one model, and that no model name could be mistaken for a soup in a log."""
    if not names:
        raise InputError("A soup needs at least one model, got none.")
    for name in names:
        if SEPARATOR in name:
            raise InputError(f"Model names must not contain '{SEPARATOR}', got '{name}'. Rename the model.")


def _finite(score: float, name: str) -> float:
    if not math.isfinite(score):
        raise InputError(f"The score of '{name}' must be a finite number, got {score}.")
    return float(score)


@dataclass(frozen=True, kw_only=True)
class UniformSoup(Several):
    """Uniform soup: the mean of all fine-tuned models."""

    name: ClassVar[str] = "uniform_soup"
    end: ClassVar[str] = "soup"
    cheap: ClassVar[bool] = True

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the uniform soup."""
        return uniform_soup(thetas)

    def sentence(self) -> str:
        """Return text for the model card that says which models are averaged."""
        return "`theta_1` is a uniform soup: the mean of all fine-tuned models."


@dataclass(frozen=True, kw_only=True)
class GreedySoup(Several):
    """Greedy soup: the mean of those fine-tuned models that improve it.

    Attributes:
        score: Score to maximise on the validation images. `patching` is the mean accuracy on the patching tasks;
            `selection` is the score that the selection rule uses.
    """

    name: ClassVar[str] = "greedy_soup"
    end: ClassVar[str] = "soup"
    reads_labels: ClassVar[bool] = True
    score: Score = "patching"

    def __post_init__(self) -> None:
        if self.score not in get_args(Score):
            hint = did_you_mean(str(self.score), get_args(Score))
            raise InputError(
                f"`score` of the method '{self.name}' must be patching or selection, got {self.score!r}.{hint}"
            )

    @property
    def needs_validation(self) -> bool:
        """Scores are measured on validation images."""
        return True

    @property
    def needs_selection(self) -> bool:
        """Whether models are scored by the selection rule."""
        return self.score == "selection"

    def measured(self, num_models: int) -> Measured:
        """Return the number of scores: of each model, of each soup and, for the rule, of theta_0."""
        if self.score == "patching":
            return Measured(scores=2 * num_models - 1)
        return Measured(scores=2 * num_models, scored="all")

    def merge(self, theta_0: Weights, thetas: Mapping[str, Weights], measurements: Measurements) -> dict[str, Tensor]:
        """Return the weights of the greedy soup. Each score is saved immediately."""
        return greedy_soup(thetas, lambda theta: measurements.score(theta, self.score), log=measurements.scores).theta

    def sentence(self) -> str:
        """Return text for the model card that says which models are averaged."""
        score = "patching accuracy" if self.score == "patching" else "score of the selection rule"
        return (
            "`theta_1` is a greedy soup: the mean of the fine-tuned models that, added from the best to the worst, "
            f"raised the {score} on the validation images."
        )
