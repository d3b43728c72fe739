"""The search for the coefficients of parallel patching: its gap to the optimum, compared with random search.

    python tests/benchmarks/search.py [--quick] [--json FILE]

The landscapes have a known optimum: the accuracy of each patched task saturates with its coefficient, and the loss on
the supported tasks grows quadratically with all of them together. Both searches may evaluate 50 points. The table
shows the mean gap over 20 landscapes between the true score of the point found and the optimum, in points; besides
random search, it shows the gap of the best of 101 uniform coefficients.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from common import Row, arguments, report
from numpy.typing import NDArray
from scipy.optimize import minimize

from hf_paint import search_coefficients


BUDGET, NUM_LANDSCAPES = 50, 20
MIN_RATIO = 5
NUM_IMAGES = 2000
ROUGHNESS = 0.001
"""The standard deviation of what a score of the rough kind is off by, of its own at each point."""


class Landscape:
    """The mean of patching and supported accuracy as a concave function of one coefficient per task."""

    def __init__(self, num_tasks: int, seed: int) -> None:
        generator = np.random.default_rng([num_tasks, seed])
        self.names = [f"task_{i}" for i in range(num_tasks)]
        self.gain = generator.uniform(0.05, 0.5, num_tasks)
        self.scale = generator.uniform(0.1, 0.5, num_tasks)
        loading = generator.uniform(0.3, 0.7, num_tasks)
        correlation = np.outer(loading, loading) + np.diag(1 - loading**2)
        damage = np.sqrt(generator.uniform(0.02, 0.2, num_tasks))
        self.damage = correlation * np.outer(damage, damage)

    def true(self, point: NDArray[np.float64]) -> float:
        """Return the score at a point, shape (num_tasks,)."""
        saturated = (1 - np.exp(-point / self.scale)) / (1 - np.exp(-1 / self.scale))
        return float((0.5 + np.mean(self.gain * saturated) + 0.7 - point @ self.damage @ point) / 2)

    def point(self, coefficients: dict[str, float]) -> NDArray[np.float64]:
        return np.array([coefficients[name] for name in self.names])

    def smooth(self, coefficients: dict[str, float]) -> float:
        return self.true(self.point(coefficients))

    def rounded(self, coefficients: dict[str, float]) -> float:
        return round(self.smooth(coefficients) * NUM_IMAGES) / NUM_IMAGES

    def rough(self, coefficients: dict[str, float]) -> float:
        noise = np.random.default_rng([round(100 * alpha) for alpha in coefficients.values()]).standard_normal()
        return self.smooth(coefficients) + ROUGHNESS * noise

    def optimum(self) -> float:
        """Return the highest score in the cube, from several starts."""
        bounds = [(0, 1)] * len(self.names)
        solve = partial(minimize, lambda point: -self.true(point), bounds=bounds, method="L-BFGS-B", tol=1e-14)
        return max(-solve(np.full(len(bounds), start)).fun for start in (0.1, 0.3, 0.9))


class Found(NamedTuple):
    """Gap to the optimum in points, and the number of evaluations used."""

    gap: float
    evaluations: int


def find(landscape: Landscape, score: Callable[[dict[str, float]], float], method: str, seed: int) -> Found:
    """Search, and compare the true score of the result with the optimum."""
    result = search_coefficients(score, landscape.names, budget=BUDGET, method=method, seed=seed)
    return Found(100 * (landscape.optimum() - landscape.smooth(result.best.coefficients)), len(result.points))


def uniform_gap(landscape: Landscape, score: Callable[[dict[str, float]], float]) -> float:
    """Return the gap of the best of 101 uniform coefficients."""
    points = [dict.fromkeys(landscape.names, step / 100) for step in range(101)]
    return 100 * (landscape.optimum() - landscape.smooth(max(points, key=score)))


def compare_methods(num_tasks: int, kind: str, num_landscapes: int) -> Row:
    """Return the table row for a number of tasks and a kind of score."""
    landscapes = [Landscape(num_tasks, seed) for seed in range(num_landscapes)]
    scores = [getattr(landscape, kind) for landscape in landscapes]
    drawn, found = (
        [find(*pair, method, seed) for seed, pair in enumerate(zip(landscapes, scores, strict=True))]
        for method in ("random", "cobyqa")
    )
    uniform = np.mean([uniform_gap(*pair) for pair in zip(landscapes, scores, strict=True)])
    random_gap, gap = (np.mean([one.gap for one in of]) for of in (drawn, found))
    return Row(
        job=f"coefficients of {num_tasks} tasks, {kind} score, gap in points",
        plain=f"random {random_gap:.3f}, uniform {uniform:.3f}",
        ours=f"{gap:.4f} after {np.mean([one.evaluations for one in found]):.0f} evaluations",
        ratio=f"{random_gap / gap:.0f}",
        difference=f"{max(one.gap for one in found):.3f} points",
        target=f"at least {MIN_RATIO}x" if kind == "smooth" else "",
        met=bool(random_gap >= MIN_RATIO * gap) if kind == "smooth" else None,
    )


def main() -> None:
    """Compare for several numbers of tasks: on smooth scores, on counts of images, and on noisy ones."""
    parsed = arguments(__doc__)
    numbers, num_landscapes = ((2, 3), 2) if parsed.quick else ((2, 3, 5, 9), NUM_LANDSCAPES)
    kinds = ("smooth", "rounded", "rough")
    report([compare_methods(number, kind, num_landscapes) for kind in kinds for number in numbers], parsed)


if __name__ == "__main__":
    main()
