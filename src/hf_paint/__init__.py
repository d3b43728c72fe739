"""Patch open-vocabulary models: fine-tune CLIP on one task, interpolate the weights, keep everything else.

The public names are imported on first use, so that what needs no torch starts without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from hf_paint.checkpoints import combine_checkpoints, interpolate_checkpoints
    from hf_paint.comparison import compare_runs
    from hf_paint.curve import AlphaCurve
    from hf_paint.definitions import list_tasks
    from hf_paint.errors import InputError
    from hf_paint.evaluation import evaluate_tasks
    from hf_paint.heads import ZeroShotHead, build_zero_shot_head
    from hf_paint.hub import PushOptions, push_variants
    from hf_paint.interpolation import combine, interpolate, interpolated
    from hf_paint.patches import apply_patch
    from hf_paint.patching import (
        PatchOptions,
        PatchResult,
        patch_joint,
        patch_parallel,
        patch_sequential,
        patch_single,
    )
    from hf_paint.prepared_task import prepare_task
    from hf_paint.pull import load_curve
    from hf_paint.search import search_coefficients
    from hf_paint.sweep import sweep_alphas
    from hf_paint.tasks import Task, get_task
    from hf_paint.trainer import PaintTrainer
    from hf_paint.training_args import PaintTrainingArguments

__version__ = "0.1.0"

_MODULES = {
    "AlphaCurve": "curve",
    "InputError": "errors",
    "PaintTrainer": "trainer",
    "PaintTrainingArguments": "training_args",
    "PatchOptions": "patching",
    "PatchResult": "patching",
    "PushOptions": "hub",
    "Task": "tasks",
    "ZeroShotHead": "heads",
    "apply_patch": "patches",
    "build_zero_shot_head": "heads",
    "combine": "interpolation",
    "combine_checkpoints": "checkpoints",
    "compare_runs": "comparison",
    "evaluate_tasks": "evaluation",
    "get_task": "tasks",
    "interpolate": "interpolation",
    "interpolate_checkpoints": "checkpoints",
    "interpolated": "interpolation",
    "list_tasks": "definitions",
    "load_curve": "pull",
    "patch_joint": "patching",
    "patch_parallel": "patching",
    "patch_sequential": "patching",
    "patch_single": "patching",
    "prepare_task": "prepared_task",
    "push_variants": "hub",
    "search_coefficients": "search",
    "sweep_alphas": "sweep",
}

__all__ = [
    "AlphaCurve",
    "InputError",
    "PaintTrainer",
    "PaintTrainingArguments",
    "PatchOptions",
    "PatchResult",
    "PushOptions",
    "Task",
    "ZeroShotHead",
    "apply_patch",
    "build_zero_shot_head",
    "combine",
    "combine_checkpoints",
    "compare_runs",
    "evaluate_tasks",
    "get_task",
    "interpolate",
    "interpolate_checkpoints",
    "interpolated",
    "list_tasks",
    "load_curve",
    "patch_joint",
    "patch_parallel",
    "patch_sequential",
    "patch_single",
    "prepare_task",
    "push_variants",
    "search_coefficients",
    "sweep_alphas",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_paint' has no attribute '{name}'")
    return getattr(import_module(f"hf_paint.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
