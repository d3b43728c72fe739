"""Images of every task before and after patching, in the folder of a run."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.examples import choose_images, describe_choice, make_examples, plot_examples, probabilities
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.hub.card_text import where
from hf_paint.patching.base import accelerator_for
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import example_plot


def save_examples(
    run: PatchRun, curve: AlphaCurve, alpha: Alpha, weights: Mapping[str, Tensor], *, split: str
) -> dict[str, str]:
    """Plot a few images of every task, but those of distribution shift, with what two models say about them.

    Args:
        run: The run.
        curve: What was evaluated.
        alpha: What was chosen.
        weights: The image tower of that alpha.
        split: The split of the images.

    Returns:
        Task -> how its images were chosen.
    """
    for stale in run.folder.example_plots if run.folder.write else ():
        stale.unlink()
    chosen = _choose(run, curve, alpha, split)
    if not chosen:
        return {}
    evaluator = Evaluator(accelerator_for(run.args))
    before, after = (
        [probabilities(evaluator, tower, task, split, indices) for task, indices, _ in chosen]
        for tower in map(run.tower_with, (run.theta_0, weights))
    )
    patched = f"patched ({where(alpha)})"
    for (task, indices, caption), *said in zip(chosen, before, after, strict=True):
        if run.folder.write:
            examples = make_examples(task, split, indices, before=said[0], after=said[1])
            path, title = run.folder.path / example_plot(task.task.name), f"{task.task.name} ({task.role})"
            plot_examples(examples, path, title=title, patched=patched, caption=caption)
    return {task.task.name: caption for task, _, caption in chosen}


def _choose(
    run: PatchRun, curve: AlphaCurve, alpha: Alpha, split: str
) -> list[tuple[PreparedTask, NDArray[np.int64], str]]:
    """Return each task that has images to show, their indices, and how they were chosen."""
    chosen, count = [], run.options.num_examples
    for task in run.tasks if count else ():
        before, after = (_correct(curve, task, point, split) for point in (0.0, alpha))
        if task.role != "shift" and before is not None and after is not None:
            caption = describe_choice(before, after, images=f"{split} images", count=count)
            chosen.append((task, choose_images(before, after, count=count), caption))
    return chosen


def _correct(curve: AlphaCurve, task: PreparedTask, alpha: Alpha, split: str) -> NDArray[np.bool_] | None:
    """Return which images are right at an alpha, shape (num_images,); None where the split was not evaluated."""
    result = curve.get(alpha, task.role, task.task.name, split)
    return None if result is None else curve.examples(result)
