"""The load part of the torture at small sizes: four times as much takes about four times the CPU time."""

from dataclasses import replace

import load
import load_kinds
import pytest
from tally import Tally


SIZES = {
    "tiny rows": 200,
    "files in folders": 400,
    "alphas of 50 tasks": 60,
    "records of a log": 4_000,
    "report and card: alphas of 4 tasks": 60,
    "names of classes": 2_000,
    "classes of a head with 80 templates": 20,
    "tensors of a model": 800,
}


@pytest.mark.parametrize("kind", load_kinds.KINDS, ids=[kind.name for kind in load_kinds.KINDS])
def test_nothing_is_quadratic(kind):
    tally = Tally(kind.name)
    ratio = load.measure(replace(kind, size=SIZES[kind.name]), tally)
    assert (tally.tried, tally.lost) == (1, [])
    assert 0 < ratio <= load.MOST


def test_hostile_pictures_are_refused_in_little_memory():
    tally = load.hostile_pictures()
    assert (tally.tried, tally.lost) == (6, [])


def test_what_is_quadratic_is_lost():
    def prepare(folder, size):
        return lambda: [sum(range(size)) for _ in range(size)]

    tally = Tally("quadratic")
    assert load.measure(load_kinds.Kind("quadratic", 3_000, prepare), tally) > load.MOST
    [lost] = tally.lost
    assert "four times as much took" in lost
