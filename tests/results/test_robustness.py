import math

import pytest

from hf_paint import InputError, effective_robustness, fit_baseline
from hf_paint.results.robustness import Baseline, expit, logit


PAIRS = [(0.56, 0.42), (0.63, 0.51), (0.71, 0.58), (0.76, 0.66), (0.81, 0.69)]


def test_logit_and_its_inverse():
    for p in (1e-9, 0.1, 0.5, 0.999):
        assert float(logit(p)) == pytest.approx(math.log(p / (1 - p)), rel=1e-6)
        assert float(expit(logit(p))) == pytest.approx(p)
    assert expit(logit([0.0, 1.0])).tolist() == [0, 1]
    assert expit([-1e4, 1e4]).tolist() == [0, 1]


def test_baseline_is_the_least_squares_line_between_logits():
    x, y = ([math.log(p / (1 - p)) for p in column] for column in zip(*PAIRS, strict=True))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    slope = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
    baseline = fit_baseline(PAIRS)
    assert (baseline.slope, baseline.intercept) == pytest.approx((slope, mean_y - slope * mean_x))
    expected = 1 / (1 + math.exp(-(slope * math.log(0.7 / 0.3) + mean_y - slope * mean_x)))
    assert float(baseline(0.7)) == pytest.approx(expected)


def test_models_on_a_line_have_no_effective_robustness():
    line = [(p, 1 / (1 + math.exp(-(0.9 * math.log(p / (1 - p)) - 0.4)))) for p in (0.3, 0.5, 0.8)]
    baseline = fit_baseline(line)
    for reference, shift in line:
        assert effective_robustness(reference, shift, baseline) == pytest.approx(0, abs=1e-12)
        assert effective_robustness(reference, shift + 0.1, baseline) == pytest.approx(0.1)


def test_the_ends_of_the_scale():
    baseline = Baseline(slope=0.9, intercept=-0.4)
    assert effective_robustness(1.0, 0.9, baseline) == pytest.approx(-0.1)
    assert effective_robustness(0.0, 0.1, baseline) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], "at least two models"),
        ([(0.5, 0.4)], "at least two models"),
        ([(0.5, 0.4), (0.5, 0.3)], "at least two models with different reference accuracies"),
        ([(0.5, 0.4), (1.0, 0.3)], "above 0 and below 1"),
        ([(50, 40), (60, 45)], "above 0 and below 1"),
    ],
)
def test_baselines_that_cannot_be_fitted(pairs, message):
    with pytest.raises(InputError, match=message):
        fit_baseline(pairs)
