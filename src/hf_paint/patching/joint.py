"""Patching several tasks at once, with one fine-tuned model and one alpha (PAINT, Section 5)."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel, TrainingArguments

from hf_paint.data.read_once import reading_once
from hf_paint.patching.line import patch_along_line
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.processes import with_progress
from hf_paint.patching.recipe import Rule
from hf_paint.patching.start import resolve
from hf_paint.results.alphas import DEFAULT_ALPHAS
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE
from hf_paint.tasks.registry import TaskLike


@with_progress
@reading_once()
def patch_joint(
    model: str | Path | PreTrainedModel,
    patching_tasks: Sequence[TaskLike],
    supported_tasks: Sequence[TaskLike],
    args: TrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = DEFAULT_RULE,
    tolerance: float = DEFAULT_TOLERANCE,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on several tasks at once.

    The image tower is fine-tuned once on all train splits together. Each image is compared with the frozen zero-shot
    head of its own task. One alpha is then chosen as in `patch_single`, which gives the same result if there is only
    one task. The training argument `task_sampling` controls how often each task is sampled.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        patching_tasks: Tasks to improve.
        supported_tasks: Tasks whose accuracy must be preserved.
        args: Training arguments.
        alphas: Alphas to evaluate; 0 is always added.
        selection: Rule that chooses alpha: `supported_within`, `mean`, `entropy` or `none` (see `AlphaCurve.select`).
        tolerance: Loss of supported accuracy that `supported_within` allows, as a fraction: 0.01 is one point.
        options: Options that most runs leave at their defaults.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If an argument is invalid. Raised before training whenever possible.

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
