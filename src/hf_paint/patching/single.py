"""Patching one task (PAINT, Section 2)."""

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
def patch_single(
    model: str | Path | PreTrainedModel,
    patching_task: TaskLike,
    supported_tasks: Sequence[TaskLike],
    args: TrainingArguments,
    *,
    alphas: Sequence[float] = DEFAULT_ALPHAS,
    selection: Selection = DEFAULT_RULE,
    tolerance: float = DEFAULT_TOLERANCE,
    options: PatchOptions | None = None,
) -> PatchResult:
    """Patch a CLIP model on one task.

    1. Fine-tune the image tower on the patching task against its frozen zero-shot head to get theta_1. With
       `args.train_head`, the head is trained and interpolated too, and shift tasks with the same classes are evaluated
       with it (WiSE-FT).
    2. Evaluate `theta_alpha = (1 - alpha) * theta_0 + alpha * theta_1` on the patching and supported tasks.
    3. Choose alpha on the validation images and save the patched model.

    Everything is saved in `args.output_dir`, and repeating the call resumes an interrupted run.

    Args:
        model: Model to patch: a Hub repository id, a folder, or a model in memory, which is left unchanged.
        patching_task: Task to improve.
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
        >>> result = patch_single(model_folder, task, [other_task], args, alphas=[0.0, 0.5, 1.0])
        >>> result.alpha in (0.0, 0.5, 1.0)
        True
    """
    recipe = resolve(
        "single",
        model,
        args,
        patching_tasks=[patching_task],
        supported_tasks=supported_tasks,
        rule=Rule(alphas=alphas, selection=selection, tolerance=tolerance),
        options=options,
    )
    return patch_along_line(recipe)
