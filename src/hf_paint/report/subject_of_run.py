"""Opening a finished run of any strategy for the demo, without its data."""

from collections.abc import Mapping
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.merging.base import RecordedInformation
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line, Span, Steps, WeightPath
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import StoredTower, find_tower
from hf_paint.models.task_file import read_tasks
from hf_paint.report.subject import Base, Subject, sliders
from hf_paint.results.alphas import Alpha, alpha_from_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.headers import HEAD_WEIGHT


def open_run(folder: Path, base: str | None = None) -> Subject:
    """Open a finished run.

    The sliders of a run are its alpha, or the coefficient of each task after a search. A sequential run has one for
    its steps: it leads from the base through the model after each step, which is the state that the run measured.

    Args:
        folder: Run folder.
        base: Model before patching, if it is not where the recipe says.

    Raises:
        InputError: If the run is not finished, or its base or its fine-tuned weights are missing.
    """
    run = RunFolder(folder)
    recipe = run.load_recipe()
    if run.orders.is_file():
        raise InputError(
            f"{folder} contains runs with several task orders. Pass one of them, e.g. {run.order(1).path}."
        )
    if run.load_card_facts() is None:
        raise InputError(f"The run in {folder} is not finished. Run the same `hf-paint patch` again; it resumes.")
    loaded = _base(run, recipe, base)
    curve, chosen = AlphaCurve.from_run(run.path), _chosen(run)
    path = _path(run, recipe, loaded)
    tasks = read_tasks(run.path) or (read_tasks(run.patched) if run.patched.is_dir() else [])
    return Subject(
        title=run.path.resolve().name,
        text=_text(path, loaded),
        live=loaded.live(path, tasks),
        knobs=sliders(path, chosen, curve),
        tasks=tasks,
        curve=curve,
        run=run,
    )


def _base(run: RunFolder, recipe: Json, given: str | None) -> Base:
    """Load the base from where the recipe says or, if it is no longer there, from what the run saved at alpha 0."""
    name, revision = str(recipe["model"]), str(recipe.get("model_revision", "main"))
    gone = name.startswith("a model in memory") or (Path(name).is_absolute() and not Path(name).is_dir())
    saved = next((folder for folder in (run.theta_0, run.variant(0.0)) if folder.is_dir()), None)
    if given is not None:
        name, revision = given, "main"
    elif saved is not None and (gone or saved == run.theta_0):
        name, revision = str(saved), "main"
    elif gone:
        raise InputError(f"The demo needs the files of the base, but {name} is missing. Pass --base.")
    model, processor, _ = load_clip(name, revision=revision)
    head = ClassificationHead.load(run.theta_0) if run.theta_0.is_dir() else None
    base = Base(name=name, model=model, processor=processor, head=head)
    base.check(recipe.get("base_fingerprint"), f"The run in {run.path}")
    return base


def _chosen(run: RunFolder) -> Alpha | None:
    selection = run.load_selection()
    return None if selection is None else alpha_from_json(selection["alpha"])


def _path(run: RunFolder, recipe: Json, base: Base) -> WeightPath:
    """Return the path of a run from theta_0."""
    theta_0, strategy = base.theta_0, recipe.get("strategy", "single")
    method = read_method(recipe.get("method", "interpolate"))
    if strategy == "sequential":
        return Steps(theta_0, {task: _read(run.step(n).patched, base) for n, task in enumerate(_names(recipe), 1)})
    if strategy == "parallel" and method.takes == "one":
        given: Mapping[str, str] = recipe.get("thetas") or {}
        folders = {n: find_tower(given[n]) if n in given else run.theta(n).theta_1 for n in _names(recipe)}
        return Span(theta_0, {name: _read(folder, base) for name, folder in folders.items()})
    theta_1 = next((folder for folder in (run.theta_1, run.variant(1.0)) if folder.is_dir()), run.theta_1)
    return method.path(theta_0, _read(theta_1, base), RecordedInformation(run))


def _names(recipe: Json) -> list[str]:
    """Return the names of the patching tasks, in order; a recipe has a task by name or as a mapping."""
    return [task["name"] if isinstance(task, Mapping) else str(task) for task in recipe["patching_tasks"]]


def _read(folder: Path, base: Base) -> Weights:
    """Return fine-tuned weights, including those of the head if it is trained, as float32."""
    if not folder.is_dir():
        raise InputError(f"The demo needs the fine-tuned weights, but {folder} is missing. Run the recipe again.")
    weights = dict(StoredTower(folder, base.theta_0))
    return weights if base.head is None else weights | {HEAD_WEIGHT: ClassificationHead.load(folder).weight.data}


def _text(path: WeightPath, base: Base) -> str:
    if isinstance(path, Steps):
        return f"From {base.name} (0) through the model after each step of a sequential run."
    if isinstance(path, Span) and not isinstance(path, Line):
        return f"{base.name} plus the change of each task, times its coefficient."
    return f"From {base.name} (alpha 0) to the fine-tuned model (alpha 1)."
