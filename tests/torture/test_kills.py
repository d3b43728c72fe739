"""A few signals at random moments; see `kills.py`, of which `make torture` runs many more."""

import random
import signal

import pytest
from kills import draw, strike, undisturbed

from disturbed import World, warm_up


@pytest.fixture(scope="module")
def world(model_folder, tmp_path_factory):
    world = World(tmp_path_factory.mktemp("world"), model_folder)
    warm_up(world, ["single"])
    return world


@pytest.fixture(scope="module")
def known(world):
    return undisturbed(world, "single")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_rerun_leaves_what_an_undisturbed_run_leaves(world, known, number):
    strike(world, "single", number, draw(random.Random(number.name), known), known)
