import json

import numpy as np
import pytest
import torch

from hf_paint import InputError
from hf_paint.patching.recipe import Rule
from hf_paint.results.alphas import (
    DEFAULT_ALPHAS,
    Coefficients,
    alpha_from_json,
    alpha_to_json,
    by_name,
    canonical_alpha,
    format_alpha,
    size,
    total,
    variant_name,
)
from hf_paint.results.records import Result


GRIDS = {
    "tenths": [np.arange(0, 1.1, 0.1), np.linspace(0, 1, 11), torch.linspace(0, 1, 11), np.cumsum([0] + 10 * [0.1])],
    "both sides of 0": [np.arange(-1, 1.1, 0.1), np.linspace(-1, 1, 21, dtype="float32")],
    "hundredths": [np.arange(0, 1.001, 0.01), torch.linspace(0, 1, 101), np.cumsum([0] + 100 * [0.01])],
    "sevenths": [np.arange(0, 1.01, 1 / 7), [step * (1 / 7) for step in range(8)], 1 - np.linspace(0, 1, 8)],
    "thousandths": [np.arange(0, 1.0001, 0.001), np.cumsum([0] + 1000 * [0.001])],
}


@pytest.mark.parametrize(
    ("alpha", "text"),
    [(0.0, "0.00"), (0.3, "0.30"), (0.125, "0.125"), (1 / 3, "0.333333"), (1.0, "1.00"), (-0.5, "-0.50")]
    + [(1e-7, "0.0000001"), (0.3000001, "0.3000001"), (-1e-9, "-0.000000001"), (10 / 3, "3.333333"), (-0.0, "0.00")]
    + [(0.1 + 0.2, "0.30"), (np.float32(0.7), "0.70"), (511 / 512, "0.998046875")],
)
def test_an_alpha_has_two_decimals_or_more(alpha, text):
    assert format_alpha(alpha) == text


@pytest.mark.parametrize("alpha", [0.0, 0.3, -0.25, Coefficients({"mnist": 0.3, "gtsrb": -1.0})])
def test_json_keeps_an_alpha(alpha):
    assert alpha_from_json(json.loads(json.dumps(alpha_to_json(alpha)))) == alpha


def test_coefficients_are_a_key_in_any_order():
    coefficients = Coefficients({"mnist": 0.3, "gtsrb": 0.2})
    assert {coefficients: 1}[Coefficients({"gtsrb": 0.2, "mnist": 0.3})] == 1
    assert coefficients == {"mnist": 0.3, "gtsrb": 0.2}


def test_size_is_the_distance_from_theta_0():
    assert [size(-0.5), size(0.3), size(Coefficients({"a": 0.25, "b": -0.5}))] == [0.5, 0.3, 0.75]


def test_the_default_grid_is_that_of_paint():
    assert DEFAULT_ALPHAS == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def test_total_keeps_the_sign():
    assert [total(-0.5), total(0.3), total(Coefficients({"a": 0.25, "b": -0.5}))] == [-0.5, 0.3, -0.25]


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_the_same_alphas_however_it_is_computed(name):
    first, *others = ({canonical_alpha(alpha) for alpha in grid} for grid in GRIDS[name])
    steps = len(first) - 1
    low = min(first)
    assert first == {low + (1 - low) * step / steps for step in range(steps + 1)} or name == "both sides of 0"
    assert all(other == first for other in others)
    assert len(by_name(first)) == len(GRIDS[name][0]) == len({format_alpha(alpha) for alpha in first})
    assert Rule(alphas=[alpha for grid in GRIDS[name] for alpha in grid]).alphas == Rule(alphas=sorted(first)).alphas


def test_alphas_that_differ_keep_their_value_and_their_own_names():
    generator = np.random.default_rng(0)
    apart = [1e-7, 2e-7, 0.3, 0.3000001, 0.30000001, 1e-10, 1 / 3, 0.33, 1 - 1e-7, 1.0, -1e-7, 0.0, 5 / 7, 0.12345678]
    drawn = [*apart, *generator.uniform(-1, 2, size=500), *(step / 1024 for step in range(1, 1024))]
    alphas = [canonical_alpha(alpha) for alpha in drawn]
    np.testing.assert_allclose(alphas, drawn, rtol=0, atol=5e-13)
    assert [canonical_alpha(alpha) for alpha in alphas] == alphas
    assert len(by_name(alphas)) == len({*alphas}) == len({*drawn})
    assert alphas[: len(apart)] == apart
    assert [canonical_alpha(step / 999) for step in range(1000)] == [step / 999 for step in range(1000)]


def test_records_coefficients_and_names_have_the_canonical_alpha():
    noisy = 3 * 0.1
    assert noisy != 0.3
    record = Result(alpha=noisy, task="mnist", role="patching", split="test", correct=9, total=10)
    stored = record.to_json().replace('"alpha": 0.3', f'"alpha": {noisy}')
    assert str(noisy) in stored
    coefficients = Coefficients({"mnist": noisy})
    assert [record.alpha, Result.from_json(stored).alpha, coefficients["mnist"], alpha_from_json(str(noisy))] == 4 * [
        0.3
    ]
    assert hash(coefficients) == hash(Coefficients({"mnist": 0.3}))
    assert variant_name(noisy) == "alpha-0.30"


def test_alphas_with_one_name_are_refused():
    with pytest.raises(InputError, match=r"0.333333 and 0.3333333333333333 have the same name alpha-0.333333. Remove"):
        by_name([0.333333, 1 / 3])
    with pytest.raises(InputError, match="alpha must be a number, got 'half'"):
        canonical_alpha("half")
