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
"""Coefficients are multiples of 1 / NUM_STEPS, so that model cards show exactly the evaluated coefficients."""
DIAGONAL = (0.0, 0.15, 0.3, 0.6)
"""Uniform coefficients to start with: theta_0, and values that work well for two tasks as well as for many."""
DIAGONAL_SHARE = 5
"""If there are several tasks, at most one in `DIAGONAL_SHARE` evaluations is spent on uniform coefficients."""
FIRST_RADIUS, LAST_RADIUS = 0.2, 0.01
"""Initial trust-region radius for COBYQA, and the radius at convergence, which is one step of the grid."""


class SearchPoint(NamedTuple):
    """Evaluated point, with its coefficients (task -> coefficient) and its score."""

    coefficients: dict[str, float]
    score: float


class SearchResult(NamedTuple):
    """Best point found, and all points in the order they were evaluated."""

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

    `cobyqa` first evaluates uniform coefficients, then continues from the best of them with COBYQA, a trust-region
    method that models the score as a quadratic function (Ragonneau, 2022). It stops at convergence, often long before
    the budget is spent, since restarting from there would cost half as many evaluations again for a gain of a few
    hundredths of a point. If there is only one task, only the uniform coefficients are evaluated. `random` is a
    baseline that samples uniformly from the grid.

    No point is evaluated twice. The points depend only on the arguments and the scores, so an interrupted search can
    be resumed by calling this function again with a `score` that caches its values.

    Args:
        score: Called as `score(coefficients)`, where `coefficients` maps each task to its coefficient. Returns a
            finite number; higher is better.
        names: Names of the tasks.
        budget: Maximum number of points to evaluate.
        method: Search method, `cobyqa` or `random`.
        diagonal: Uniform coefficients to start with, in [0, 1]. They are thinned out evenly to fit the budget, or a
            fifth of it if there are several tasks.
        seed: Random seed for `random`.

    Returns:
        The best point (the one with the smallest sum of coefficients in case of ties), and all evaluated points.

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
            _climb(evaluated, len(names), thin_out(diagonal, budget if len(names) == 1 else budget // DIAGONAL_SHARE))
    except _BudgetSpent:
        pass
    return evaluated.result()


def _climb(evaluated: "_Evaluated", num_tasks: int, diagonal: Sequence[float]) -> None:
    """Evaluate the uniform coefficients, and continue from the best of them with COBYQA."""
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


def thin_out(points: Sequence[float], most: int) -> list[float]:
    """Return at most `most` (but at least one) evenly spaced points. If there is only one, it is the middle one."""
    count = min(len(points), max(1, most))
    return [points[(2 * i + 1) * len(points) // (2 * count)] for i in range(count)]


def check_search(names: Sequence[str], *, budget: int, method: str, diagonal: Sequence[float]) -> None:
    """Check the arguments of `search_coefficients`.

    Raises:
        InputError: If an argument is invalid.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"A search needs one or more tasks with distinct names, got {list(names)}.")
    if budget < 1:
        raise InputError(f"A search needs a budget of at least 1 evaluation, got {budget}.")
    if method not in get_args(SearchMethod):
        hint = did_you_mean(method, get_args(SearchMethod)) or f" Choose one of: {', '.join(get_args(SearchMethod))}."
        raise InputError(f"Unknown search method '{method}'.{hint}")
    if not diagonal:
        raise InputError("`diagonal` is empty. Pass at least one uniform coefficient to start the search from.")
    for alpha in diagonal:
        check_alpha(alpha)


class _BudgetSpent(Exception):
    """Raised inside the minimiser to end a search."""


class _Evaluated:
    """Wrapper for a score that evaluates each point of the grid at most once and stays within the budget."""

    def __init__(self, score: Callable[[dict[str, float]], float], names: Sequence[str], budget: int) -> None:
        self.score = score
        self.names = names
        self.budget = budget
        self.scores: dict[tuple[int, ...], float] = {}

    def __call__(self, point: NDArray[np.float64]) -> float:
        """Return the score of the nearest grid point."""
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
            raise InputError(f"`score` must return a finite number, got {score} for {self._coefficients(steps)}.")
        return score

    def _coefficients(self, steps: tuple[int, ...]) -> dict[str, float]:
        return {name: step / NUM_STEPS for name, step in zip(self.names, steps, strict=True)}
