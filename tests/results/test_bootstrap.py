import numpy as np
import pytest

from hf_paint import InputError
from hf_paint.results.bootstrap import paired_bootstrap_interval


def test_bootstrap_equals_resampling_the_images():
    rng = np.random.default_rng(1)
    correct_0, correct_1 = rng.random(400) < 0.5, rng.random(400) < 0.6
    low, high = paired_bootstrap_interval(correct_0, correct_1)
    rows = rng.integers(400, size=(20_000, 400))
    gains = correct_1[rows].mean(axis=1) - correct_0[rows].mean(axis=1)
    expected = np.quantile(gains, [0.025, 0.975])
    assert [low, high] == pytest.approx(expected, abs=0.005)
    assert paired_bootstrap_interval(correct_0, correct_1) == (low, high)


def test_bootstrap_is_paired():
    correct_0 = np.random.default_rng(0).random(500) < 0.5
    correct_1 = correct_0.copy()
    correct_1[np.flatnonzero(~correct_0)[:50]] = True
    low, high = paired_bootstrap_interval(correct_0, correct_1)
    assert 0.07 < low < 0.1 < high < 0.13  # an unpaired interval would be about (0.04, 0.16)


def test_a_large_sample_gives_the_normal_interval():
    rng = np.random.default_rng(2)
    correct_0, correct_1 = rng.random(20_000) < 0.4, rng.random(20_000) < 0.7
    difference = correct_1.astype(float) - correct_0
    margin = 1.96 * difference.std() / np.sqrt(len(difference))
    expected = [difference.mean() - margin, difference.mean() + margin]
    low, high = paired_bootstrap_interval(correct_0, correct_1, num_resamples=20_000)
    assert [low, high] == pytest.approx(expected, abs=3e-4)


@pytest.mark.parametrize("shapes", [((3,), (4,)), ((0,), (0,)), ((2, 2), (2, 2))])
def test_examples_must_be_paired(shapes):
    with pytest.raises(InputError, match="two non-empty vectors with the same shape"):
        paired_bootstrap_interval(*(np.zeros(shape, dtype=bool) for shape in shapes))
