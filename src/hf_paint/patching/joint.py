"""Patching several tasks at once: one fine-tuning on all of them, one alpha (PAINT, Section 5)."""

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from hf_paint.patching.checks import check_arguments
from hf_paint.patching.line import patch_along_line
from hf_paint.patching.options import PatchOptions, PatchResult, Selection
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import DEFAULT_ALPHAS
from hf_paint.tasks.registry import get_task
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

    The train splits are merged and the image tower is fine-tuned on them once, each image against the frozen head of
    its own task; then one alpha is chosen as in `patch_single`, which this equals with one task. How often each task
    is drawn is a training argument: `task_sampling`.

    Args:
        model: The model to be patched: an id on the Hub, a folder, or a model in memory, which is not changed.
        patching_tasks: The tasks on which the model is to become good.
        supported_tasks: The tasks on which it is to stay as good as it is.
        args: The training arguments.
        alphas: The alphas to evaluate; 0 is always added.
        selection: `mean`, `supported_within` or `none` (`AlphaCurve.select`).
        tolerance: The loss that `supported_within` accepts, as a fraction of 1.
        options: What a run needs now and then.

    Returns:
        The chosen alpha, the curve, the run folder and the patched model.

    Raises:
        InputError: If anything that was given cannot be used; found out before training wherever that is possible.

    Example:
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> result = patch_joint(model_folder, [task, other_task], [], args, alphas=[0.5, 1.0], selection="none")
        >>> result.curve.tasks["patching"]
        ['colours', 'others']
    """
    options = options or PatchOptions()
    check_arguments("joint", args, alphas, tolerance, options)
    base = str(model) if isinstance(model, Path) else model
    run = PatchRun(base, args, selection=selection, tolerance=tolerance, options=options)
    return patch_along_line(run, "joint", [get_task(task) for task in patching_tasks], supported_tasks, alphas)
