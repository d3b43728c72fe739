"""Patching several tasks at once: one fine-tuning on all of them, one alpha (PAINT, Section 5)."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from hf_paint.patching.line import patch_along_line
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.recipe import Rule
from hf_paint.patching.start import resolve
from hf_paint.results.alphas import DEFAULT_ALPHAS
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


def patch_joint(
    model: str | Path | PreTrainedModel,
    patching_tasks: Sequence[Task | str],
    supported_tasks: Sequence[Task | str],
    args: PaintTrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = "mean",
    tolerance: float = 0.01,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on several tasks at once.

    The image tower is fine-tuned once on the union of the train splits, each image against the frozen head of its own
    task; then one alpha is chosen as in `patch_single`. With one task, the result equals `patch_single`'s. The
    training argument `task_sampling` sets how often each task is drawn.

    Args:
        model: The model to patch: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks to improve.
        supported_tasks: The tasks whose accuracy the model must keep.
        args: The training arguments.
        alphas: The alphas to evaluate; 0 is always added.
        selection: `mean`, `supported_within` or `none` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: Options that most runs leave at their defaults.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If an argument is invalid; raised before training wherever possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_joint(model_folder, [task, other_task], [], args, alphas=[0.5, 1.0], selection="none")
        >>> result.curve.tasks["patching"]
        ['colours', 'others']
    """
    recipe = resolve(
        "joint",
        model,
        args,
        patching_tasks=patching_tasks,
        supported_tasks=supported_tasks,
        rule=Rule(alphas=alphas, selection=selection, tolerance=tolerance),
        options=options,
    )
    return patch_along_line(recipe)
