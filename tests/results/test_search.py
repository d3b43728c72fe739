import math
import os
import subprocess
import sys
from itertools import product
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest

from hf_paint import AlphaCurve, InputError
from hf_paint.results.search import DIAGONAL, search_coefficients


sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
with patch.dict(os.environ):  # the benchmarks run in a separate environment
    import search as benchmark

METHODS = ("cobyqa", "random")
NAMES = ["mnist", "cars", "dtd"]


def quadratic(coefficients):
    """Its maximum is 0.9 at (0.62, 0.15, 0.38); the tasks interfere."""
    a, b, c = (coefficients[name] - best for name, best in zip(NAMES, (0.62, 0.15, 0.38), strict=True))
    return 0.9 - 0.3 * a**2 - 0.5 * b**2 - 0.2 * c**2 - 0.2 * a * b - 0.1 * b * c


class Log:
    """A score that counts its calls and remembers earlier searches."""

    def __init__(self, score, known=(), limit=math.inf):
        self.score, self.known, self.limit = score, dict(known), limit
        self.fresh, self.asked = [], []

    def __call__(self, coefficients):
        point = tuple(coefficients.items())
        self.asked.append(point)
        if point not in self.known:
            if len(self.fresh) == self.limit:
                raise KeyboardInterrupt
            self.fresh.append(point)
            self.known[point] = self.score(coefficients)
        return self.known[point]


def test_finds_the_maximum_of_a_quadratic_function():
    best, points = search_coefficients(quadratic, NAMES)
    assert best.coefficients == pytest.approx({"mnist": 0.62, "cars": 0.15, "dtd": 0.38}, abs=0.02)
    assert best.score == quadratic(best.coefficients) == max(point.score for point in points) > 0.9 - 1e-4
    assert len(points) <= 50


@pytest.mark.parametrize("corner", list(product((0, 1), repeat=2)))
def test_finds_a_maximum_in_a_corner(corner):
    best, _ = search_coefficients(lambda a: -abs(a["b"] - corner[0]) - abs(a["a"] - corner[1]), ["b", "a"])
    assert tuple(best.coefficients.values()) == corner


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("budget", [1, 2, 7, 50])
def test_points_are_of_the_grid_and_evaluated_once_within_the_budget(method, budget):
    log = Log(quadratic)
    _, points = search_coefficients(log, NAMES, budget=budget, method=method)
    assert len(log.asked) == len(set(log.asked)) == len(points) <= budget
    assert [point.coefficients for point in points] == [dict(point) for point in log.asked]
    assert all(point.score == quadratic(point.coefficients) for point in points)
    for name, alpha in (pair for point in log.asked for pair in point):
        assert name in NAMES
        assert alpha == float(f"{alpha:.2f}")
        assert 0 <= alpha <= 1


@pytest.mark.parametrize("method", METHODS)
def test_an_interrupted_search_goes_on(method):
    whole = Log(quadratic)
    expected = search_coefficients(whole, NAMES, budget=20, method=method, seed=3)
    assert len(whole.fresh) == 20
    killed = Log(quadratic, limit=8)
    with pytest.raises(KeyboardInterrupt):
        search_coefficients(killed, NAMES, budget=20, method=method, seed=3)
    again = Log(quadratic, known=killed.known)
    assert search_coefficients(again, NAMES, budget=20, method=method, seed=3) == expected
    assert killed.fresh + again.fresh == whole.fresh


def test_another_process_takes_the_same_points():
    code = (
        "from hf_paint.results.search import search_coefficients; import sys; "
        "print(search_coefficients(lambda a: -sum((x - 0.4) ** 2 for x in a.values()), ['a', 'b', 'c']).points); "
        "sys.exit('torch' in sys.modules)"
    )
    runs = {subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(runs) == 1


def test_starts_from_uniform_coefficients():
    points = search_coefficients(quadratic, NAMES).points
    assert [point.coefficients for point in points[:4]] == [dict.fromkeys(NAMES, alpha) for alpha in DIAGONAL]
    assert points[0].coefficients == dict.fromkeys(NAMES, 0.0)  # so the result is never worse than the model patched


@pytest.mark.parametrize(
    ("num_names", "budget", "expected"),
    [(1, 50, range(0, 11)), (1, 5, (1, 3, 5, 7, 9)), (1, 1, (5,)), (2, 10, (2, 8)), (2, 3, (5,)), (2, 55, range(11))],
)
def test_a_long_diagonal_is_thinned_out_evenly(num_names, budget, expected):
    diagonal = [step / 10 for step in range(11)]
    points = search_coefficients(lambda a: 0.0, NAMES[:num_names], budget=budget, diagonal=diagonal).points
    uniform = [dict.fromkeys(NAMES[:num_names], step / 10) for step in expected]
    assert [point.coefficients for point in points[: len(uniform)]] == uniform
    assert num_names == 2 or len(points) == len(uniform)


def test_one_task_is_single_patching():
    """The choice equals that of a sweep over the same alphas, including ties."""
    alphas = [step / 10 for step in range(11)]
    patching = [0.48, 0.71, 0.90, 0.95, 0.97, 0.98, 0.985, 0.99, 0.99, 0.99, 0.99]
    supported = [0.70, 0.70, 0.69, 0.68, 0.63, 0.62, 0.55, 0.50, 0.45, 0.40, 0.35]
    curve = AlphaCurve.from_accuracies(alphas, patching={"mnist": patching}, supported={"imagenet": supported})
    means = {alpha: round(p + s, 6) for alpha, p, s in zip(alphas, patching, supported, strict=True)}
    best, points = search_coefficients(lambda a: means[a["mnist"]], ["mnist"], diagonal=alphas)
    assert best.coefficients == {"mnist": curve.select("mean")} == {"mnist": 0.3}
    assert [point.coefficients["mnist"] for point in points] == alphas


@pytest.mark.parametrize("method", METHODS)
def test_of_equally_good_points_the_smallest_sum_is_best(method):
    best, points = search_coefficients(lambda a: float(sum(a.values()) > 0.5), ["a", "b"], method=method)
    sums = [round(100 * sum(point.coefficients.values())) for point in points if point.score == 1]
    assert len(sums) > 3
    assert round(100 * sum(best.coefficients.values())) == min(sums)


@pytest.mark.parametrize("score", [lambda a: 0.5, lambda a: hash(tuple(a.values())) % 7, lambda a: -min(a.values())])
@pytest.mark.parametrize("num_names", [2, 20])
def test_a_search_ends_also_where_there_is_nothing_to_find(score, num_names):
    points = search_coefficients(score, [f"task_{i}" for i in range(num_names)], budget=10_000).points
    assert len(points) < 1000


def test_random_search_ends_when_the_grid_is_exhausted():
    best, points = search_coefficients(lambda a: -abs(a["a"] - 0.37), ["a"], budget=1000, method="random")
    assert sorted(point.coefficients["a"] for point in points) == [step / 100 for step in range(101)]
    assert best.coefficients == {"a": 0.37}


def test_random_search_is_uniform_and_its_seed_counts():
    points = [search_coefficients(quadratic, NAMES, method="random", seed=seed).points for seed in (0, 1)]
    assert points[0] != points[1]
    assert np.mean([list(p.coefficients.values()) for p in points[0]]) == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(
    ("names", "options", "message"),
    [
        ([], {}, r"tasks with distinct names, got \[\]"),
        (["a", "a"], {}, "distinct names"),
        (["a"], {"budget": 0}, "at least 1 evaluation, got 0"),
        (["a"], {"method": "cobyca"}, "Did you mean 'cobyqa'"),
        (["a"], {"method": "grid"}, "Choose one of: cobyqa, random"),
        (["a"], {"diagonal": ()}, "at least one"),
        (["a"], {"diagonal": (0.5, 1.2)}, r"in \[0, 1\], got 1.2"),
    ],
)
def test_arguments_that_cannot_be_used(names, options, message):
    log = Log(quadratic)
    with pytest.raises(InputError, match=message):
        search_coefficients(log, names, **options)
    assert log.asked == []


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite(value):
    with pytest.raises(InputError, match=r"finite number, got -?(nan|inf) for {'a': 0.0, 'b': 0.0}"):
        search_coefficients(lambda a: value, ["a", "b"])


def test_the_optimum_of_the_benchmark_is_that_of_the_grid():
    for seed in range(3):
        landscape = benchmark.Landscape(2, seed)
        grid = [landscape.true(np.array(point)) for point in product(np.linspace(0, 1, 101), repeat=2)]
        assert 0 <= landscape.optimum() - max(grid) < 1e-4


@pytest.mark.parametrize(("num_tasks", "kind", "ratio"), [(2, "smooth", 5), (9, "smooth", 5), (3, "rounded", 5)])
def test_beats_random_search(num_tasks, kind, ratio):
    gaps = {method: [] for method in METHODS}
    for seed in range(5):
        landscape = benchmark.Landscape(num_tasks, seed)
        for method in METHODS:
            gaps[method].append(benchmark.find(landscape, getattr(landscape, kind), method, seed).gap)
    assert ratio * np.mean(gaps["cobyqa"]) < np.mean(gaps["random"])
