"""Plots of images with their predictions before and after patching, for the model card."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.examples import choose_images, describe_choice, make_examples, plot_examples, probabilities
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.merging.interpolation import Weights
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha, alpha_phrase
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import example_plot


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Choice:
    """Images chosen from a task: indices of shape (num_images,), and a caption that explains the choice."""

    task: PreparedTask
    indices: NDArray[np.int64]
    caption: str


def save_examples(run: PatchRun, curve: AlphaCurve, alpha: Alpha, weights: Weights) -> dict[str, str]:
    """Plot a few images of each task, except shift tasks, with predictions before and after patching.

    Args:
        run: Patching run.
        curve: Results of the run.
        alpha: Chosen alpha.
        weights: Image tower weights at this alpha.

    Returns:
        Mapping from task name to a description of how its images were chosen.
    """
    if run.folder.write:
        for stale in run.folder.example_plots:
            stale.unlink()
    choices, split = _choose(run, curve, alpha), curve.reported_split
    if not choices:
        return {}
    evaluator = Evaluator(run.args.make_accelerator())
    before, after = (
        [probabilities(evaluator, tower, choice.task, split, choice.indices) for choice in choices]
        for tower in map(run.tower_with, (run.base.theta_0, weights))
    )
    if run.folder.write:
        for choice, *both in zip(choices, before, after, strict=True):
            _plot(run, choice, split, *both, patched=f"patched ({alpha_phrase(alpha)})")
    return {choice.task.task.name: choice.caption for choice in choices}


def _choose(run: PatchRun, curve: AlphaCurve, alpha: Alpha) -> list[_Choice]:
    """Choose images from each task, except shift tasks, that was evaluated before and after patching."""
    split, count = curve.reported_split, run.options.num_examples
    if not count:
        return []
    choices = []
    for task in run.tasks:
        before, after = (_correct(curve, task, point, split) for point in (0.0, alpha))
        if task.role != "shift" and before is not None and after is not None:
            caption = describe_choice(before, after, images=f"{split} images", count=count)
            indices = task.images[split].counted[choose_images(before, after, count=count)]
            choices.append(_Choice(task=task, indices=indices, caption=caption))
    return choices


def _correct(curve: AlphaCurve, task: PreparedTask, alpha: Alpha, split: str) -> NDArray[np.bool_] | None:
    """Return whether each counted image is classified correctly at an alpha; None if not evaluated."""
    result = curve.get(alpha, task.role, task.task.name, split)
    return None if result is None else curve.correct_images(result)


def _plot(
    run: PatchRun,
    choice: _Choice,
    split: str,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    *,
    patched: str,
) -> None:
    task = choice.task
    path, title = run.folder.path / example_plot(task.task.name), f"{task.task.name} ({task.role})"
    examples = make_examples(task, split, choice.indices, before=before, after=after)
    plot_examples(examples, path, title=title, patched=patched, caption=choice.caption)
