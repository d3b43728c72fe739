"""Opening a finished run of any strategy for the demo, without its data."""

from functools import partial
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError
from hf_paint.merging.interpolation import Weights
from hf_paint.merging.path import Line, Span, Steps, WeightPath
from hf_paint.merging.recorded import existing, lacks_base, read_tower, recorded_path
from hf_paint.models.classifier import ClassificationHead
from hf_paint.models.loading import load_clip
from hf_paint.models.task_file import read_tasks
from hf_paint.report.subject import Base, Subject, sliders
from hf_paint.results.alphas import Alpha, alpha_from_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RunFolder


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
    path = recorded_path(run, recipe, loaded.theta_0, partial(_read, run, loaded))
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
    name, revision, gone = str(recipe["model"]), str(recipe.get("model_revision", "main")), lacks_base(recipe)
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


def _read(run: RunFolder, base: Base, folder: Path) -> Weights:
    """Return fine-tuned weights, which a run may have saved as a variant, too; with the head if it is trained."""
    saved = [folder, run.variant(1.0)] if folder == run.theta_1 else [folder]
    found = existing(next((each for each in saved if each.is_dir()), folder), "The demo")
    return dict(read_tower(found, base.theta_0))


def _text(path: WeightPath, base: Base) -> str:
    if isinstance(path, Steps):
        return f"From {base.name} (0) through the model after each step of a sequential run."
    if isinstance(path, Span) and not isinstance(path, Line):
        return f"{base.name} plus the change of each task, times its coefficient."
    return f"From {base.name} (alpha 0) to the fine-tuned model (alpha 1)."
