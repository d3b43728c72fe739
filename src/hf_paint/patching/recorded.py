"""A finished run, rebuilt from its folder without its data: its base, and its path from theta_0 to theta_1."""

from collections.abc import Mapping
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.merging.base import RecordedInformation
from hf_paint.merging.path import Span, WeightPath
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.patching.base import Base
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Recipe, Rule
from hf_paint.patching.run import PatchRun
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.registry import get_tasks
from hf_paint.training.training_args import PaintTrainingArguments


ARGUMENTS = ("use_cpu", "use_peft", "use_dora", "train_head")
"""Training arguments that say how a finished run is saved."""


def recorded_run(folder: RunFolder, recipe: Json) -> PatchRun:
    """Return a finished run without its tasks' images, from the contents of its `recipe.yaml`.

    Raises:
        InputError: If the base is missing, or has changed since the run.
    """
    model = str(recipe["model"])
    if model.startswith("a model in memory") or (Path(model).is_absolute() and not Path(model).is_dir()):
        raise InputError(f"Choosing again needs the files of the base, but {model} is missing.")
    names = ("model_revision", "base_fingerprint", "base_model_id", "save_dtype", "thetas", "baseline", "method")
    options = PatchOptions(**{name: recipe[name] for name in names if name in recipe})
    arguments = {name: recipe[name] for name in ARGUMENTS if name in recipe}
    base = Base.load(model, options)
    if folder.theta_0.exists():
        base = base.with_head(ClassificationHead.load(folder.theta_0))
    return PatchRun(
        Recipe(
            strategy=recipe.get("strategy", "single"),
            base=base,
            args=PaintTrainingArguments(output_dir=str(folder.path), **arguments),
            patching_tasks=get_tasks(recipe["patching_tasks"]),
            supported_tasks=get_tasks(recipe.get("supported_tasks", [])),
            rule=Rule(alphas=recipe["alphas"], selection=recipe["selection"], tolerance=recipe["tolerance"]),
            options=options,
            method=read_method(recipe.get("method", "interpolate")),
        )
    )


def recorded_path(run: PatchRun) -> WeightPath:
    """Return the path of a finished run from theta_0 to theta_1, or the span of its theta_i.

    Raises:
        InputError: If the fine-tuned weights are missing.
    """
    folder, theta_0 = run.folder, run.base.theta_0
    if not run.recipe.searches:
        _check_exists(folder.theta_1)
        return run.method.path(theta_0, run.base.read(folder.theta_1), RecordedInformation(folder))
    return Span(theta_0, {task: StoredTower(found, theta_0) for task, found in _theta_folders(run).items()})


def _theta_folders(run: PatchRun) -> Mapping[str, Path]:
    """Return the folder of the fine-tuned model of each task after parallel patching."""
    given, folders = run.options.thetas, {}
    for task in run.recipe.patching_tasks:
        own = run.folder.theta(task.name).theta_1
        if task.name not in given:
            _check_exists(own)
        folders[task.name] = find_tower(given[task.name]) if task.name in given else own
    return folders


def _check_exists(folder: Path) -> None:
    if not folder.is_dir():
        raise InputError(
            f"Choosing again needs the fine-tuned weights, but {folder} is missing. Run the recipe again."
        )
