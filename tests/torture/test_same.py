"""A few attempts of each kind of `same.py`."""

import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent))
from same import check_close, check_interrupted, check_same, world


@pytest.fixture(scope="module")
def place():
    with world() as place:
        yield place


@pytest.fixture(scope="module")
def single(place):
    return place.run("single")


def test_a_repeated_run_has_the_same_files(place, single):
    check_same(place.run("single", fresh=True), single)


def test_workers_change_nothing(place, single):
    check_same(place.run("single", dataloader_num_workers=1), single)


@pytest.mark.parametrize("seed", [0.301, 0.9, 0.996])
def test_an_interrupted_run_ends_as_if_nothing_had_happened(place, single, seed):
    """At steps 3 and 7 of 7, the first and the last time with a torn checkpoint."""
    check_interrupted(place, "single", seed, single)


def test_the_comparisons_see_a_difference(place, single):
    files = dict(single)
    name = next(name for name in files if name.endswith("theta_1/model.safetensors"))
    data = bytearray(files[name])
    data[-2] ^= 64
    for check in (check_same, lambda found, expected: check_close(found, expected, place.folder)):
        with pytest.raises(AssertionError, match="differ"):
            check(files | {name: bytes(data)}, single)
