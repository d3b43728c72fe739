"""Black-box search for the coefficients of parallel patching (PAINT, Section 5)."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from hf_paint.errors import InputError, did_you_mean
from hf_paint.weights.compatibility import check_alpha


SearchMethod = Literal["cobyqa", "random"]

NUM_STEPS = 100
"""Coefficients are multiples of 1 / NUM_STEPS, so a card shows exactly the coefficients that were evaluated."""
DIAGONAL = (0.0, 0.15, 0.3, 0.6)
"""The uniform coefficients to start with: theta_0, and steps that suit two tasks as well as many."""
DIAGONAL_SHARE = 5
"""With several tasks, at most one evaluation in `DIAGONAL_SHARE` is spent on uniform coefficients."""
FIRST_RADIUS, LAST_RADIUS = 0.2, 0.01
"""The first trust-region radius of COBYQA, and the radius at convergence, which is one step of the grid."""


class SearchPoint(NamedTuple):
    """An evaluated point: task -> coefficient, and the score there."""

    coefficients: dict[str, float]
    score: float


class SearchResult(NamedTuple):
    """The best point, and all evaluated points in the order of their evaluation."""

    best: SearchPoint
    points: list[SearchPoint]


def search_coefficients(
    score: Callable[[dict[str, float]], float],
    names: Sequence[str],
    *,
    budget: int = 50,
    method: SearchMethod = "cobyqa",
    diagonal: Sequence[float] = DIAGONAL,
    seed: int = 0,
) -> SearchResult:
    """Search for the coefficients of `theta_0 + sum_i a_i * (theta_i - theta_0)` with the highest score.

    `cobyqa` evaluates uniform coefficients and continues from the best of them with COBYQA, a trust-region method that
    models the score as a quadratic function (Ragonneau, 2022). It stops at convergence, often long before the budget
    is spent: a restart from there costs half as many evaluations again and gains hundredths of a point. With a single
    task the uniform coefficients are the whole search. `random`, the baseline, draws uniformly from the grid.

    No point is evaluated twice. The points depend only on the arguments and the scores: to resume an interrupted
    search, repeat the call with a `score` that remembers its values.

    Args:
        score: Maps task -> coefficient to a finite number; higher is better.
        names: The tasks.
        budget: The maximum number of evaluated points.
        method: `cobyqa` or `random`.
        diagonal: The uniform coefficients, in [0, 1]. They are thinned out evenly to the budget, or to a fifth of it
            if there are several tasks.
        seed: The seed of `random`.

    Returns:
        The best point, ties going to the smallest sum, and all points in the order of their evaluation.

    Raises:
        InputError: If an argument is invalid, or a score is not finite.

    Example:
        >>> def score(a):
        ...     return 1 - (a["mnist"] - 0.7) ** 2 - (a["cars"] - 0.2) ** 2
        >>> search_coefficients(score, ["mnist", "cars"]).best
        SearchPoint(coefficients={'mnist': 0.7, 'cars': 0.2}, score=1.0)
    """
    check_search(names, budget=budget, method=method, diagonal=diagonal)
    evaluated = _Evaluated(score, names, budget)
    try:
        if method == "random":
            _draw(evaluated, len(names), seed)
        else:
            _climb(evaluated, len(names), _thin_out(diagonal, budget if len(names) == 1 else budget // DIAGONAL_SHARE))
    except _BudgetSpent:
        pass
    return evaluated.result()


def _climb(evaluated: "_Evaluated", num_tasks: int, diagonal: Sequence[float]) -> None:
    """Evaluate the diagonal, and continue from its best point."""
    for alpha in diagonal:
        evaluated(np.full(num_tasks, alpha))
    if num_tasks > 1:
        start = list(evaluated.result().best.coefficients.values())
        radii = {"initial_tr_radius": FIRST_RADIUS, "final_tr_radius": LAST_RADIUS}
        bounds = [(0, 1)] * num_tasks
        minimize(lambda point: -evaluated(point), start, method="COBYQA", bounds=bounds, options=radii)


def _draw(evaluated: "_Evaluated", num_tasks: int, seed: int) -> None:
    """Evaluate random points until the budget or the grid is exhausted."""
    generator = np.random.default_rng(seed)
    while len(evaluated.scores) < (NUM_STEPS + 1) ** num_tasks:
        evaluated(generator.integers(NUM_STEPS + 1, size=num_tasks) / NUM_STEPS)


def _thin_out(diagonal: Sequence[float], most: int) -> list[float]:
    """Return at most `most` points, but at least one, spread evenly; a single point is the middle one."""
    count = min(len(diagonal), max(1, most))
    return [diagonal[(2 * i + 1) * len(diagonal) // (2 * count)] for i in range(count)]


def check_search(names: Sequence[str], *, budget: int, method: str, diagonal: Sequence[float]) -> None:
    """Check the arguments of `search_coefficients`.

    Raises:
        InputError: If one of them is invalid.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"A search needs tasks with distinct names, got {list(names)}.")
    if budget < 1:
        raise InputError(f"A search needs a budget of at least 1 evaluation, got {budget}.")
    if method not in get_args(SearchMethod):
        hint = did_you_mean(method, get_args(SearchMethod)) or f" Choose one of: {', '.join(get_args(SearchMethod))}."
        raise InputError(f"Unknown search method '{method}'.{hint}")
    if not diagonal:
        raise InputError("A search starts from uniform coefficients: `diagonal` needs at least one.")
    for alpha in diagonal:
        check_alpha(alpha)


class _BudgetSpent(Exception):
    """Ends a search from within the minimizer."""


class _Evaluated:
    """The score on the grid, evaluated at most once per point and within the budget."""

    def __init__(self, score: Callable[[dict[str, float]], float], names: Sequence[str], budget: int) -> None:
        self.score = score
        self.names = names
        self.budget = budget
        self.scores: dict[tuple[int, ...], float] = {}

    def __call__(self, point: NDArray[np.float64]) -> float:
        """Return the score of the nearest point of the grid."""
        steps = tuple(int(step) for step in np.rint(np.clip(point, 0, 1) * NUM_STEPS))
        if steps not in self.scores:
            if len(self.scores) == self.budget:
                raise _BudgetSpent
            self.scores[steps] = self._evaluate(steps)
        return self.scores[steps]

    def result(self) -> SearchResult:
        best = max(self.scores, key=lambda steps: (self.scores[steps], -sum(steps)))
        points = {steps: SearchPoint(self._coefficients(steps), score) for steps, score in self.scores.items()}
        return SearchResult(points[best], list(points.values()))

    def _evaluate(self, steps: tuple[int, ...]) -> float:
        score = float(self.score(self._coefficients(steps)))
        if not math.isfinite(score):
            raise InputError(f"A score must be a finite number, got {score} for {self._coefficients(steps)}.")
        return score

    def _coefficients(self, steps: tuple[int, ...]) -> dict[str, float]:
        return {name: step / NUM_STEPS for name, step in zip(self.names, steps, strict=True)}
