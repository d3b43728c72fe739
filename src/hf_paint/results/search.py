"""Black-box search for the coefficients of parallel patching (PAINT, Section 5). It knows no models: no torch."""

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
"""Coefficients are multiples of 1 / NUM_STEPS: those on a card are exactly those that were evaluated."""
DIAGONAL = (0.0, 0.15, 0.3, 0.6)
"""Uniform coefficients to begin with: the model that is patched, and steps that suit many tasks as well as two."""
DIAGONAL_SHARE = 5
"""With several tasks, at most one evaluation in so many goes to uniform coefficients."""
FIRST_RADIUS, LAST_RADIUS = 0.2, 0.01
"""How far COBYQA looks around at first, and when it has converged: the grid holds nothing finer."""


class SearchPoint(NamedTuple):
    """An evaluated point: task -> coefficient, and the score there."""

    coefficients: dict[str, float]
    score: float


class SearchResult(NamedTuple):
    """The best point, and all evaluated points in their order."""

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
    """Search the coefficients of `theta_0 + sum_i a_i * (theta_i - theta_0)` that score best.

    `cobyqa` evaluates uniform coefficients and goes on from the best of them with COBYQA, a trust-region method that
    models the score as a quadratic function (Ragonneau, 2022). It stops when that has converged, often long before
    the budget is spent: starting anew from there costs half as many evaluations again and finds hundredths of a point.
    The diagonal of a single task is the whole problem, so nothing follows it. `random`, the baseline, draws uniformly
    from the grid and knows no diagonal.

    No point is evaluated twice. The points depend on nothing but the arguments and the scores, so that a `score` that
    remembers lets an interrupted search go on: repeat the call.

    Args:
        score: Task -> coefficient in, a finite number out; higher is better.
        names: The tasks.
        budget: How many points are evaluated at most.
        method: `cobyqa` or `random`.
        diagonal: The uniform coefficients, in [0, 1]; thinned out evenly if they are more than the budget, or with
            several tasks than a fifth of it.
        seed: Seed of `random`.

    Returns:
        The best point, of equally good ones that with the smallest sum, and all points in order.

    Raises:
        InputError: If an argument cannot be used, or a score is not finite.

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
    """Evaluate the diagonal, and go on from its best point."""
    for alpha in diagonal:
        evaluated(np.full(num_tasks, alpha))
    if num_tasks > 1:
        start = list(evaluated.result().best.coefficients.values())
        radii = {"initial_tr_radius": FIRST_RADIUS, "final_tr_radius": LAST_RADIUS}
        bounds = [(0, 1)] * num_tasks
        minimize(lambda point: -evaluated(point), start, method="COBYQA", bounds=bounds, options=radii)


def _draw(evaluated: "_Evaluated", num_tasks: int, seed: int) -> None:
    """Evaluate random points until the budget is spent or the grid has no others."""
    generator = np.random.default_rng(seed)
    while len(evaluated.scores) < (NUM_STEPS + 1) ** num_tasks:
        evaluated(generator.integers(NUM_STEPS + 1, size=num_tasks) / NUM_STEPS)


def _thin_out(diagonal: Sequence[float], most: int) -> list[float]:
    """Return at most `most` points, and at least one, spread evenly: one alone is from the middle."""
    count = min(len(diagonal), max(1, most))
    return [diagonal[(2 * i + 1) * len(diagonal) // (2 * count)] for i in range(count)]


def check_search(names: Sequence[str], *, budget: int, method: str, diagonal: Sequence[float]) -> None:
    """Refuse arguments that `search_coefficients` cannot use.

    Raises:
        InputError: If there are any.
    """
    if not names or len(set(names)) < len(names):
        raise InputError(f"A search needs tasks with different names, got {list(names)}.")
    if budget < 1:
        raise InputError(f"A search needs a budget of at least 1 evaluation, got {budget}.")
    if method not in get_args(SearchMethod):
        hint = did_you_mean(method, get_args(SearchMethod)) or f" There are: {', '.join(get_args(SearchMethod))}."
        raise InputError(f"Unknown search method '{method}'.{hint}")
    if not diagonal:
        raise InputError("A search starts from uniform coefficients: the diagonal needs at least one.")
    for alpha in diagonal:
        check_alpha(alpha)


class _BudgetSpent(Exception):
    """Ends a search; the minimizer lets it through."""


class _Evaluated:
    """The score on the grid, and what is known of it."""

    def __init__(self, score: Callable[[dict[str, float]], float], names: Sequence[str], budget: int) -> None:
        self.score = score
        self.names = names
        self.budget = budget
        self.scores: dict[tuple[int, ...], float] = {}

    def __call__(self, point: NDArray[np.float64]) -> float:
        """Evaluate the point of the grid next to this one, unless it is known."""
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
