"""What a run folder already holds, so that a run can say what it reuses."""

import logging
from collections.abc import Iterator

from hf_paint.evaluation.sweep import sorted_alphas
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.method_choice import num_trials
from hf_paint.patching.run import PatchRun
from hf_paint.results.checkpoints import last_checkpoint
from hf_paint.results.run_files import SINGLE_MODELS
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tried_methods import read_tried


logger: logging.Logger = logging.getLogger(__name__)


def say_progress(run: PatchRun) -> None:
    """Log what a run reuses, on the process that writes."""
    for line in describe_progress(run) if run.folder.write else ():
        logger.info(line)


def describe_progress(run: PatchRun) -> list[str]:
    """Return one line for everything that an earlier start of a run has left behind; empty for a new run."""
    if not run.folder.has_parts():
        return []
    if _is_finished(run):
        return [f"Nothing to train or measure: the run in {run.folder.path} is finished."]
    return [*_models(run), *_evaluations(run)]


def fine_tuned_folders(run: PatchRun) -> dict[str, RunFolder]:
    """Return the folders of the models that a run fine-tunes, keyed by how messages call them.

    The steps of sequential patching are runs of their own and not among them.
    """
    folder, recipe = run.folder, run.recipe
    if recipe.strategy == "sequential":
        return {}
    if recipe.strategy == "parallel":
        names = [task.name for task in recipe.trained_tasks]
    else:
        names = list(ingredient_arguments(run.args, run.options.ingredients))
    if not names and recipe.trained_tasks and not (run.method.merges or run.options.thetas):
        return {"theta_1": folder}
    return {f"theta_1 of {name}": folder.theta(name) for name in names}


def checkpoint_step(folder: RunFolder) -> int | None:
    """Return the step of the checkpoint that training resumes from, or None."""
    checkpoint = last_checkpoint(folder.path, warn=False)
    return None if checkpoint is None else int(checkpoint.name.rpartition("-")[2])


def recorded_alphas(run: PatchRun) -> tuple[int, int]:
    """Return how many alphas of a line have all their records, of the images of this run, and how many there are."""
    alphas = sorted_alphas(run.rule.alphas, extrapolate=run.options.extrapolate)
    recorded = {(result.alpha, result.task, result.split, result.data) for result in run.log().results if result.exact}
    wanted = [
        (task.task.name, split, images.fingerprint) for task in run.tasks for split, images in task.images.items()
    ]
    return sum(all((alpha, *each) in recorded for each in wanted) for alpha in alphas), len(alphas)


def recorded_single_models(run: PatchRun) -> tuple[int, int]:
    """Return how many models that a merge combines are on record on their own task, and how many there are."""
    if run.recipe.searches:
        return 0, 0
    wanted = {(task.task.name, task.images["test"].fingerprint) for task in run.tasks_alone}
    found = {(result.task, result.data) for result in run.log(SINGLE_MODELS).results}
    return len(wanted & found), len(wanted)


def _is_finished(run: PatchRun) -> bool:
    """Return whether everything that a run makes is there, and chosen by its rule or by hand instead of it."""
    stored, rule = run.folder.load_selection(), (run.rule.selection, run.rule.tolerance)
    is_chosen = stored is not None and (stored.get("instead_of", stored["rule"]), stored["tolerance"]) == rule
    made = not run.recipe.chooses or (run.folder.patched.exists() and is_chosen)
    if run.recipe.strategy == "sequential":
        return made
    recorded = [recorded_alphas(run), recorded_single_models(run)]
    return made and not run.recipe.searches and all(done == total for done, total in recorded)


def _models(run: PatchRun) -> Iterator[str]:
    for number, task in enumerate(run.recipe.patching_tasks, 1):
        if run.recipe.strategy == "sequential" and run.folder.step(number).patched.exists():
            yield f"Step {number} ({task.name}): kept."
    for name, folder in fine_tuned_folders(run).items():
        step = checkpoint_step(folder)
        if folder.theta_1.exists():
            yield f"{name}: kept."
        elif step is not None:
            yield f"{name}: training resumes from step {step}."


def _evaluations(run: PatchRun) -> Iterator[str]:
    if run.recipe.searches:
        combinations = {result.alpha for result in run.log().results if result.split == "validation"}
        if combinations:
            yield f"Search: {len(combinations)} combinations are on record."
    elif run.recipe.strategy != "sequential":
        tried = read_tried(run.folder.path)
        if num_trials(run.recipe) and tried is not None:
            yield f"Choosing the method: {len(tried.points('validation'))} evaluations are on record."
        done, total = recorded_single_models(run)
        if done:
            yield f"Single models: {done} of {total} are on record."
        done, total = recorded_alphas(run)
        if done:
            yield f"Sweep: {done} of {total} alphas are on record."
