"""The interval that decides whether a model is kept, against exact probabilities."""

import numpy as np
import pytest
from scipy.stats import multinomial

from hf_paint.results.bootstrap import paired_bootstrap_interval
from hf_paint.results.paired import images_needed, paired_interval


@pytest.mark.parametrize("total", [20, 60, 200])
@pytest.mark.parametrize(
    ("gain", "loss"), [(0, 0.01), (0.001, 0.02), (0.01, 0.01), (0.02, 0.1), (0, 0.05), (0.1, 0.0)]
)
def test_each_end_errs_in_at_most_a_fortieth_of_all_samples(total, gain, loss):
    """Over all samples that are not practically impossible, weighted with their exact probabilities."""
    below = above = covered = 0.0
    for won in range(int(20 + 3 * total * gain)):
        for lost in range(min(total - won, int(20 + 3 * total * loss)) + 1):
            probability = multinomial.pmf([won, lost, total - won - lost], total, [gain, loss, 1 - gain - loss])
            if probability > 1e-9:
                low, high = paired_interval(won, lost, total)
                below, above = below + probability * (high < gain - loss), above + probability * (low > gain - loss)
                covered += probability
    assert covered > 0.999
    assert below <= 0.025
    assert above <= 0.025


@pytest.mark.parametrize(("won", "lost", "total"), [(200, 300, 10_000), (900, 100, 5_000), (400, 400, 2_000)])
def test_many_changed_images_give_the_bootstrap_interval(won, lost, total):
    before, after = np.zeros(total, dtype=bool), np.zeros(total, dtype=bool)
    after[:won], before[won : won + lost] = True, True
    expected = paired_bootstrap_interval(before, after, num_resamples=20_000)
    width = expected[1] - expected[0]
    assert np.allclose(paired_interval(won, lost, total), expected, atol=0.05 * width)


def test_equal_predictions_are_no_proof():
    """Without a changed image, a share p of losses is excluded from the n with (1 - p) ** n < 1 / 40."""
    assert paired_interval(0, 0, 20)[0] < -0.1
    smallest = next(n for n in range(1, 1000) if 0.99**n < 0.025)
    assert paired_interval(0, 0, smallest)[0] > -0.01
    assert paired_interval(0, 0, smallest - 1)[0] < -0.01
    assert 0 <= images_needed(0, 0, 20, -0.01) - smallest < 10


@pytest.mark.parametrize(("won", "lost", "total"), [(0, 100, 100), (100, 0, 100), (1, 0, 1), (0, 1, 1), (50, 50, 100)])
def test_every_image_changes(won, lost, total):
    low, high = paired_interval(won, lost, total)
    assert -1 <= low <= (won - lost) / total <= high <= 1
    assert tuple(-end for end in paired_interval(lost, won, total)) == pytest.approx((high, low))


@pytest.mark.parametrize(("won", "lost", "total", "bound"), [(3, 9, 200, -0.05), (10, 2, 300, 0.0), (0, 4, 90, -0.1)])
def test_as_many_images_as_needed_tell(won, lost, total, bound):
    needed = images_needed(won, lost, total, bound)
    scale = needed / total
    low, high = paired_interval(won * scale, lost * scale, needed)
    assert not low <= bound <= high
    low, high = paired_interval(won * scale * 0.8, lost * scale * 0.8, 0.8 * needed)
    assert low <= bound <= high
    assert images_needed(1, 2, 100, -0.01) is None
