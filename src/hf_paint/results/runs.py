"""Read the runs to compare from their folders."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.files import expand
from hf_paint.repositories import cached, is_repo_id
from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import ROLES, Result, Role
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import check_sealed
from hf_paint.results.single_models import read_single_models
from hf_paint.results.tables import FINE_TUNED
from hf_paint.weights.changes import WeightChanges, measure_weight_changes
from hf_paint.weights.headers import INDEX, SINGLE


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Run:
    """Run to be compared.

    Attributes:
        name: Name used in tables, which is the last part of the folder path.
        base: Name of the base model used in tables, the same for all runs with this base.
        files: Run folder.
        recipe: Resolved recipe.
        curve: Alpha curve with the records of the run.
        chosen: Selected alpha, or None if none was selected.
        single_models: Records of the models that the run combined, each on its own task (`read_single_models`).
    """

    name: str
    base: str
    files: RunFolder
    recipe: Json
    curve: AlphaCurve
    chosen: Alpha | None
    single_models: AlphaCurve

    @property
    def strategy(self) -> str:
        """Patching strategy."""
        return str(self.recipe.get("strategy", "single"))

    @property
    def label(self) -> str:
        """Name, strategy and method of the run."""
        return f"{self.name} ({', '.join([self.strategy, *self.recipe.get('method', {})])})"

    @property
    def end(self) -> str:
        """Name of theta_1, which is fine-tuned by itself or merged from several models."""
        ingredients = self.recipe.get("ingredients") or []
        lists = [value for each in ingredients for value in each.values() if isinstance(value, list)]
        models = len(self.recipe.get("thetas") or {}) + len(ingredients)
        is_merged = self.strategy == "parallel" or models > 1 or any(len(values) > 1 for values in lists)
        return "merged, alpha 1" if is_merged else FINE_TUNED

    def get(self, alpha: Alpha, task: str, split: str) -> Result | None:
        """Return the record for a task in any role, or None if there is none."""
        curves = (self.curve, self.single_models)
        results = (curve.get(alpha, role, task, split) for curve in curves for role in ROLES)
        return next(filter(None, results), None)

    def tasks(self, role: Role, split: str) -> list[str]:
        """Return the tasks in a role that have records on the split."""
        evaluated = {result.task for result in self.curve.results if result.split == split}
        return [task for task in self.curve.tasks.get(role, []) if task in evaluated]

    def specialised_in(self, alpha: Alpha) -> str | None:
        """Return the task if the model at this alpha was fine-tuned on a single task and is its theta_1, else None.

        By projection, the model after a step is a merge of those of all tasks so far, whatever the alphas before were.
        """
        if isinstance(alpha, Coefficients):
            projects = self.recipe.get("merge") == "projection"
            parts = {task: value for task, value in alpha.items() if value or projects}
        else:
            parts = dict.fromkeys(self.curve.tasks.get("patching", []), alpha)
        return next(iter(parts)) if list(parts.values()) == [1.0] else None

    def trade_off(self, split: str) -> list[tuple[Alpha, float, float]]:
        """Return (alpha, mean supported accuracy, mean patching accuracy), or [] if one of the roles has no tasks."""
        sides: tuple[Role, Role] = ("supported", "patching")
        if any(split not in self.curve.splits(side) for side in sides):
            return []
        means = {
            a: [float(self.curve.mean_accuracy(a, side, split)) for side in sides] for a in self.curve.points(split)
        }
        return [(alpha, supported, patching) for alpha, (supported, patching) in means.items()]


def read_runs(folders: Sequence[str | Path], *, split: str) -> list[Run]:
    """Read runs, and check that each has a task in common with the others.

    Raises:
        InputError: If a folder is not a run folder, is given twice, has no records on the split, or has no task in
            common with the other runs.
    """
    paths = [expand(folder).resolve() for folder in folders]
    for path in paths:
        if paths.count(path) > 1:
            raise InputError(f"The run folder {path} is given twice. Remove one of them.")
    contents = [(RunFolder(path), *_read(RunFolder(path), split)) for path in paths]
    bases: dict[str, str] = {}
    for _, recipe, curve in contents:
        key, name = _base_key(recipe, curve), str(recipe.get("base_model_id") or recipe["model"])
        bases[key] = min(name, bases.get(key, name), key=lambda one: (not is_repo_id(one), one))  # ids before folders
    base_names = dict(zip(bases, short_names(list(bases.values())), strict=True))
    runs = [
        Run(
            name=name,
            base=base_names[_base_key(recipe, curve)],
            files=files,
            recipe=recipe,
            curve=curve,
            chosen=read_chosen(files, curve),
            single_models=read_single_models(files.path, curve),
        )
        for name, (files, recipe, curve) in zip(short_names([str(p) for p in paths]), contents, strict=True)
    ]
    _check_common_tasks(runs, split)
    return runs


def _read(files: RunFolder, split: str) -> tuple[Json, AlphaCurve]:
    recipe, curve = read_records(files)
    splits = sorted({result.split for result in curve.results})
    if split not in splits:
        raise InputError(f"{files.path} has no records on the {split} split, only on: {', '.join(splits) or 'none'}.")
    return recipe, curve


def read_records(files: RunFolder) -> tuple[Json, AlphaCurve]:
    """Return the recipe and the results of a run.

    Raises:
        InputError: If the folder is not a run folder, or contains runs with several task orders.
    """
    if files.orders.is_file():
        raise InputError(
            f"{files.path} contains runs with several task orders. Pass their folders instead, e.g. "
            f"{files.order(1).path}."
        )
    if not files.recipe.is_file():
        raise InputError(
            f"{files.path} is not a run folder: it has no {files.recipe.name}. Pass the output_dir of "
            "`hf-paint patch`."
        )
    check_sealed(files.path)
    recipe, curve = files.load_recipe(), AlphaCurve.from_run(files.path)
    if "model" not in recipe:
        raise InputError(f"{files.recipe} lacks the key `model`.")
    return recipe, curve


def read_chosen(files: RunFolder, curve: AlphaCurve) -> Alpha | None:
    """Return the selected alpha of a run, or None if none was selected.

    Raises:
        InputError: If it is missing in `selection.json` or was not evaluated.
    """
    selection = files.load_selection()
    if selection is None:
        return None
    try:
        alpha = alpha_from_json(selection["alpha"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{files.selection} does not contain an alpha: {error}") from error
    if alpha not in curve.alphas:
        raise InputError(
            f"{files.selection} contains alpha {format_alpha(alpha)}, for which {files.results.name} has no records."
        )
    return alpha


def _base_key(recipe: Mapping[str, object], curve: AlphaCurve) -> str:
    """Return the fingerprint of theta_0, or the name of the base model if the fingerprint is unknown."""
    measured = next((result.weights for result in curve.results if result.alpha == 0.0), "")
    return str(recipe.get("base_fingerprint") or measured or recipe["model"])


def short_names(paths: Sequence[str]) -> list[str]:
    """Return the last part of each path, or as many parts as needed to tell the paths apart."""
    parts = [PurePath(path).parts for path in paths]
    for length in range(1, max(map(len, parts))):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(names):
            return names
    return [path if paths.count(path) == 1 else f"{path} #{i}" for i, path in enumerate(paths, start=1)]


def _check_common_tasks(runs: Sequence[Run], split: str) -> None:
    tasks = {run.name: {task for role in ROLES for task in run.tasks(role, split)} for run in runs}
    for name, own in tasks.items():
        others = {task for other, theirs in tasks.items() if other != name for task in theirs}
        if len(runs) > 1 and not own & others:
            raise InputError(
                f"{name} has no task in common with the other runs on the {split} split: it evaluated "
                f"{', '.join(sorted(own))}, they evaluated {', '.join(sorted(others))}."
            )


def changes_of(runs: Sequence[Run]) -> tuple[dict[str, WeightChanges], list[str]]:
    """Return base -> weight changes in its runs, and notes on runs or bases whose weights are not on this disk."""
    changes, notes = {}, []
    for base in dict.fromkeys(run.base for run in runs):
        siblings = [run for run in runs if run.base == base]
        notes += [f"{run.name} has no theta_1: its weights are not compared." for run in siblings if not _ends(run)]
        folders = {name: folder for run in siblings for name, folder in _ends(run).items()}
        ends = {name: folder for name, folder in folders.items() if folder is not None}
        notes += [f"{name} is not on this disk: its weights are not compared." for name in folders if name not in ends]
        folder_0 = next(filter(None, (_base_folder(run.recipe) for run in siblings)), None)
        if ends and folder_0 is None:
            notes.append(f"{base} is not on this disk ({siblings[0].recipe['model']}): its weights are not compared.")
        elif ends and folder_0:
            changes[base] = measure_weight_changes(folder_0, ends)
    return changes, notes


def _ends(run: Run) -> dict[str, Path | None]:
    """Return the models that were fine-tuned from the base: theta_1 or, in a parallel run, one per task.

    The folder is None for models that are listed in the recipe but are not on this disk.
    """
    theta_1 = run.files.theta_1
    if run.strategy != "parallel":
        return {run.name: theta_1} if _holds_weights(theta_1) else {}
    own = {task: run.files.theta(task).theta_1 for task in run.curve.tasks.get("patching", [])}
    named = {task: _folder(name) for task, name in (run.recipe.get("thetas") or {}).items()}
    folders = {task: named.get(task, folder if _holds_weights(folder) else None) for task, folder in own.items()}
    return {f"{run.name}/{task}": folder for task, folder in folders.items() if folder or task in named}


def _base_folder(recipe: Mapping[str, object]) -> Path | None:
    return _folder(str(recipe["model"]), str(recipe.get("model_revision", "main")))


def _folder(model: str, revision: str = "main") -> Path | None:
    """Return the folder of a model, or None if its weights are not on this disk."""
    weights = cached(model, SINGLE, revision) or cached(model, INDEX, revision)
    return weights.parent if weights else None


def _holds_weights(folder: Path) -> bool:
    return (folder / SINGLE).is_file() or (folder / INDEX).is_file()
