"""The weights of a finished run, found again in its folder: its models, and its path from theta_0."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Span, Steps, WeightPath
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.fingerprinted import load_fingerprinted
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.folders import HEAD_CONFIG
from hf_paint.weights.headers import HEAD_WEIGHT


IN_MEMORY = "a model in memory"
"""How the name of a base begins that was passed as a model and is in no folder."""


class RecordedInformation:
    """Fisher information read from the folder of a finished run.

    Args:
        folder: Run folder.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder

    def fisher(self, name: str, theta: Weights, *, num_images: int, seed: int) -> dict[str, Tensor]:
        """Return the Fisher information recorded under this name."""
        return load_fingerprinted(self.folder.fisher(name))


def lacks_base(recipe: Mapping[str, Any]) -> bool:
    """Return whether the files of the base are not where the recipe of a run says, unless they are on the Hub."""
    model = str(recipe["model"])
    return model.startswith(IN_MEMORY) or (Path(model).is_absolute() and not Path(model).is_dir())


def recorded_path(
    run: RunFolder, recipe: Mapping[str, Any], theta_0: Weights, read: Callable[[Path], Weights]
) -> WeightPath:
    """Return the path of a finished run from theta_0: to theta_1, through its steps, or to the models of its tasks.

    Args:
        run: Run folder.
        recipe: Recipe of the run.
        theta_0: Weights before patching, name -> tensor.
        read: Called as `read(folder)` for each fine-tuned model; returns its weights, or raises an error if the folder
            is missing.
    """
    strategy, method = recipe.get("strategy", "single"), read_method(recipe.get("method", "interpolate"))
    tasks = [task["name"] if isinstance(task, Mapping) else str(task) for task in recipe["patching_tasks"]]
    if strategy == "sequential":
        return Steps(theta_0, {task: read(run.step(number).patched) for number, task in enumerate(tasks, 1)})
    if strategy == "parallel" and method.takes == "one":
        given = recipe.get("thetas") or {}
        folders = {task: find_tower(given[task]) if task in given else run.theta(task).theta_1 for task in tasks}
        return Span(theta_0, {task: read(folder) for task, folder in folders.items()})
    return method.path(theta_0, read(run.theta_1), RecordedInformation(run))


def existing(folder: Path, purpose: str) -> Path:
    """Return the folder of a fine-tuned model that is needed for a purpose, such as `Pushing`.

    Raises:
        InputError: If it is missing.
    """
    if not folder.is_dir():
        raise InputError(
            f"{purpose} needs the fine-tuned weights, but {folder} is missing. Run the recipe again, which makes it."
        )
    return folder


def read_tower(folder: Path, theta_0: Weights) -> Weights:
    """Return the image tower in a folder, including the head if it was trained.

    Args:
        folder: Folder of a fine-tuned model.
        theta_0: Weights before patching, for a model without the frozen projection (see `StoredTower`).
    """
    tower = StoredTower(folder, theta_0)
    if not (folder / HEAD_CONFIG).exists():
        return tower
    return dict(tower) | {HEAD_WEIGHT: ClassificationHead.load(folder).weight.data}
