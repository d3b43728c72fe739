"""What fine-tuning changed in each run, where both ends are on this disk: nothing is downloaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from hf_paint.comparison.runs import Run
from hf_paint.weights.changes import WeightChanges, measure_weight_changes
from hf_paint.weights.headers import INDEX, SINGLE


def changes_of(runs: Sequence[Run]) -> tuple[dict[str, WeightChanges], list[str]]:
    """Return base -> the changes of its runs, and a line about each run or base that had to be left out."""
    changes, notes = {}, []
    for base in dict.fromkeys(run.base for run in runs):
        siblings = [run for run in runs if run.base == base]
        notes += [f"{run.name} holds no theta_1: its weights are not compared." for run in siblings if not _ends(run)]
        found = {name: folder for run in siblings for name, folder in _ends(run).items()}
        ends = {name: folder for name, folder in found.items() if folder is not None}
        notes += [f"{name} is not on this disk: its weights are not compared." for name in found.keys() - ends.keys()]
        folder_0 = next(filter(None, (_base_folder(run.recipe) for run in siblings)), None)
        if ends and folder_0 is None:
            notes.append(f"{base} is not on this disk ({siblings[0].recipe['model']}): its weights are not compared.")
        elif ends and folder_0:
            changes[base] = measure_weight_changes(folder_0, ends)
    return changes, notes


def _ends(run: Run) -> dict[str, Path | None]:
    """Return the models of a run that were fine-tuned from its base: theta_1, or in a parallel run one per task.

    A model that the run names and that is not on this disk is None.
    """
    theta_1 = run.folder / "theta_1"
    if run.strategy != "parallel":
        return {run.name: theta_1} if _holds_weights(theta_1) else {}
    own = {task: run.folder / "thetas" / task / "theta_1" for task in run.curve.tasks.get("patching", [])}
    given = {task: _folder(*name.partition("@")[::2]) for task, name in (run.recipe.get("thetas") or {}).items()}
    found = {task: given.get(task, folder if _holds_weights(folder) else None) for task, folder in own.items()}
    return {f"{run.name}/{task}": folder for task, folder in found.items() if folder or task in given}


def _base_folder(recipe: Mapping[str, Any]) -> Path | None:
    return _folder(str(recipe["model"]), str(recipe.get("model_revision", "main")))


def _folder(model: str, revision: str) -> Path | None:
    """Return the folder of a model: the folder itself, or where the cache of the Hub keeps it."""
    if Path(model).is_dir():
        return Path(model) if _holds_weights(Path(model)) else None
    for name in (SINGLE, INDEX):
        try:
            cached = try_to_load_from_cache(model, name, revision=revision or "main")
        except HFValidationError:  # a folder that is gone, or a model that was in memory
            return None
        if isinstance(cached, str):
            return Path(cached).parent
    return None


def _holds_weights(folder: Path) -> bool:
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()
