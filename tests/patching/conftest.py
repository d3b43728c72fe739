"""Runs shared by several test modules."""

import pytest

from drawn_tasks import write_task
from method_runs import INGREDIENTS, NAMES, patch


@pytest.fixture(scope="session")
def tasks(tmp_path_factory):
    """A patching task and a supported task."""
    folder = tmp_path_factory.mktemp("tasks")
    return write_task(folder / "data", train=300), write_task(folder / "data", "others", seed=7)


@pytest.fixture(scope="session")
def greedy(model_folder, tasks, tmp_path_factory):
    """A greedy soup of three fine-tuned models, which other tests merge with other methods."""
    folder = tmp_path_factory.mktemp("greedy") / "run"
    return patch(model_folder, tasks, folder, method="greedy_soup", ingredients=INGREDIENTS)


@pytest.fixture(scope="session")
def thetas(greedy):
    """Name -> folder of three fine-tuned models."""
    return {name: str(greedy.run_folder / "thetas" / name / "theta_1") for name in NAMES}
