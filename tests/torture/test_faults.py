"""A few failing writes and requests; see `faults.py`, of which `make torture` runs many more."""

import random

import pytest
from faults import NUMBERS, fail_request, fail_write
from kills import undisturbed

from disturbed import World


def draw(name, number):
    return random.Random(name).randint(1, number)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A folder for a world without and one with a Hub."""
    return tmp_path_factory.mktemp("disk"), tmp_path_factory.mktemp("network")


@pytest.fixture(scope="module")
def known(folders, model_folder):
    """A world, and what an evaluation that fills its cache leaves."""
    world = World(folders[0], model_folder)
    return world, undisturbed(world, "cache fill")


@pytest.mark.parametrize("number", NUMBERS)
def test_a_failing_write_is_one_line_and_mended_by_a_rerun(known, number):
    world, expected = known
    fail_write(world, "cache fill", draw(number, expected.writes), number, expected)


def test_a_network_that_dies_is_one_line_and_mended_by_a_rerun(folders, model_folder, hub):
    world = World(folders[1], model_folder, hub=hub)
    world.publish()
    for name in ("data set", "stream"):
        expected = undisturbed(world, name)
        fail_request(world, name, draw(name, expected.requests), "dead", expected)
