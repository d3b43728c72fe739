"""Theta_1 of a step of sequential patching by projection: the models of the tasks so far, merged."""

from collections.abc import Sequence
from pathlib import Path

from hf_paint.merging.interpolation import Weights
from hf_paint.merging.projection import NAME, merge_by_projection
from hf_paint.models.devices import float64_device
from hf_paint.models.stored import StoredTower
from hf_paint.patching.fine_tuning import bound_theta_1, fine_tune
from hf_paint.patching.processes import make_once
from hf_paint.patching.run import PatchRun
from hf_paint.patching.stages import count
from hf_paint.results.progress import begin_stage
from hf_paint.results.run_folder import RunFolder


def project_theta_1(step: PatchRun, before: Sequence[Path]) -> Weights:
    """Fine-tune theta_0 on the last task of a step, and merge the model with those of the previous steps.

    The models of all tasks are read from disk one tensor at a time.

    Args:
        step: The run of a step after the first.
        before: Run folders of the previous steps, in order.

    Raises:
        InputError: If a model of an earlier step is missing or does not fit the base, or the step has records of
            another model.
    """
    *_, task = step.recipe.patching_tasks
    own = step.folder.theta(task.name)
    fine_tune(step, [task], own, step.args)
    bound_theta_1(step, own)

    def save() -> None:
        names = [each.name for each in step.recipe.patching_tasks]
        folders = [RunFolder(before[0]).theta_1]  # the first step has nothing to merge
        folders += [RunFolder(path).theta(name).theta_1 for path, name in zip(before[1:], names[1:], strict=False)]
        begin_stage("merge", f"{count(len(names), 'model')}, {NAME}")
        theta_0 = step.base.theta_0
        towers = [StoredTower(folder, theta_0) for folder in (*folders, own.theta_1)]
        theta_1 = merge_by_projection(
            theta_0, dict(zip(names, towers, strict=True)), device=float64_device(step.args.device)
        )
        step.folder.save_folder(step.folder.theta_1, lambda folder: step.base.save(folder, theta_1))

    make_once(step.folder.theta_1, save)
    return bound_theta_1(step, step.folder)
