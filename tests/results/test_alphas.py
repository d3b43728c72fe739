import json

import pytest

from hf_paint.results.alphas import DEFAULT_ALPHAS, Coefficients, alpha_from_json, alpha_to_json, format_alpha, size


@pytest.mark.parametrize(
    ("alpha", "text"),
    [(0.0, "0.00"), (0.3, "0.30"), (0.125, "0.125"), (1 / 3, "0.333333"), (1.0, "1.00"), (-0.5, "-0.50")],
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
