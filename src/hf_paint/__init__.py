"""Patch open-vocabulary models: fine-tune CLIP on one task, interpolate the weights, keep everything else.

The public names are imported on first use, so that what needs no torch starts without it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from hf_paint.adapters.lora import interpolate_adapter
    from hf_paint.adapters.lora_extraction import extract_lora
    from hf_paint.adapters.lora_scaling import combine_adapters, scale_adapter
    from hf_paint.adapters.patch import apply_patch
    from hf_paint.errors import InputError
    from hf_paint.evaluation.ensembles import ensemble_logits, evaluate_ensemble
    from hf_paint.evaluation.evaluate import evaluate_tasks
    from hf_paint.evaluation.prepared_task import prepare_task
    from hf_paint.evaluation.sweep import sweep_alphas
    from hf_paint.hub.pull import load_curve
    from hf_paint.hub.push import PushOptions, push_variants
    from hf_paint.merging.averaging import EMACallback, SWACallback
    from hf_paint.merging.fisher import estimate_fisher, interpolate_fisher
    from hf_paint.merging.interpolation import combine, interpolate, interpolated
    from hf_paint.merging.layerwise import interpolate_layerwise, lines_alphas
    from hf_paint.merging.learned_soups import learned_soup
    from hf_paint.merging.model_stock import interpolate_model_stock
    from hf_paint.merging.soups import greedy_soup, uniform_soup
    from hf_paint.merging.task_arithmetic import add_task_vectors, dare, ties
    from hf_paint.models.classifier import ClassificationHead, load_classifier
    from hf_paint.models.heads import CandidateHead, ZeroShotHead
    from hf_paint.models.open_clip import convert_open_clip
    from hf_paint.models.stored import LazyWeights
    from hf_paint.models.zero_shot import build_zero_shot_head
    from hf_paint.patching.joint import patch_joint
    from hf_paint.patching.options import PatchOptions, PatchResult
    from hf_paint.patching.parallel import patch_parallel
    from hf_paint.patching.sequential import patch_sequential
    from hf_paint.patching.single import patch_single
    from hf_paint.results.comparison import compare_runs
    from hf_paint.results.curve import AlphaCurve
    from hf_paint.results.robustness import effective_robustness, fit_baseline, relative_robustness
    from hf_paint.results.robustness_table import robustness_table
    from hf_paint.results.search import search_coefficients
    from hf_paint.tasks.definitions import list_tasks
    from hf_paint.tasks.registry import corrupted, get_task
    from hf_paint.tasks.scene_tasks import write_counting_task, write_questions_task, write_shapes_task
    from hf_paint.tasks.scenes import SceneStyle, draw_scene
    from hf_paint.tasks.task import Task
    from hf_paint.tasks.typographic import TypographicAttack
    from hf_paint.tasks.vqa import read_vqa
    from hf_paint.training.head_trainer import HeadTrainer
    from hf_paint.training.trainer import PaintTrainer
    from hf_paint.training.training_args import PaintTrainingArguments
    from hf_paint.weights.checkpoints import combine_checkpoints, interpolate_checkpoints
    from hf_paint.weights.layers import layer_index

__version__ = "0.1.0"

_MODULES = {
    "AlphaCurve": "results.curve",
    "CandidateHead": "models.heads",
    "ClassificationHead": "models.classifier",
    "EMACallback": "merging.averaging",
    "HeadTrainer": "training.head_trainer",
    "InputError": "errors",
    "LazyWeights": "models.stored",
    "PaintTrainer": "training.trainer",
    "PaintTrainingArguments": "training.training_args",
    "PatchOptions": "patching.options",
    "PatchResult": "patching.options",
    "PushOptions": "hub.push",
    "SWACallback": "merging.averaging",
    "SceneStyle": "tasks.scenes",
    "Task": "tasks.task",
    "TypographicAttack": "tasks.typographic",
    "ZeroShotHead": "models.heads",
    "add_task_vectors": "merging.task_arithmetic",
    "apply_patch": "adapters.patch",
    "build_zero_shot_head": "models.zero_shot",
    "combine": "merging.interpolation",
    "combine_adapters": "adapters.lora_scaling",
    "combine_checkpoints": "weights.checkpoints",
    "compare_runs": "results.comparison",
    "convert_open_clip": "models.open_clip",
    "corrupted": "tasks.registry",
    "dare": "merging.task_arithmetic",
    "draw_scene": "tasks.scenes",
    "effective_robustness": "results.robustness",
    "ensemble_logits": "evaluation.ensembles",
    "estimate_fisher": "merging.fisher",
    "evaluate_ensemble": "evaluation.ensembles",
    "evaluate_tasks": "evaluation.evaluate",
    "extract_lora": "adapters.lora_extraction",
    "fit_baseline": "results.robustness",
    "get_task": "tasks.registry",
    "greedy_soup": "merging.soups",
    "interpolate": "merging.interpolation",
    "interpolate_adapter": "adapters.lora",
    "interpolate_checkpoints": "weights.checkpoints",
    "interpolate_fisher": "merging.fisher",
    "interpolate_layerwise": "merging.layerwise",
    "interpolate_model_stock": "merging.model_stock",
    "interpolated": "merging.interpolation",
    "layer_index": "weights.layers",
    "learned_soup": "merging.learned_soups",
    "lines_alphas": "merging.layerwise",
    "list_tasks": "tasks.definitions",
    "load_classifier": "models.classifier",
    "load_curve": "hub.pull",
    "patch_joint": "patching.joint",
    "patch_parallel": "patching.parallel",
    "patch_sequential": "patching.sequential",
    "patch_single": "patching.single",
    "prepare_task": "evaluation.prepared_task",
    "push_variants": "hub.push",
    "read_vqa": "tasks.vqa",
    "relative_robustness": "results.robustness",
    "robustness_table": "results.robustness_table",
    "scale_adapter": "adapters.lora_scaling",
    "search_coefficients": "results.search",
    "sweep_alphas": "evaluation.sweep",
    "ties": "merging.task_arithmetic",
    "uniform_soup": "merging.soups",
    "write_counting_task": "tasks.scene_tasks",
    "write_questions_task": "tasks.scene_tasks",
    "write_shapes_task": "tasks.scene_tasks",
}

__all__ = [
    "AlphaCurve",
    "CandidateHead",
    "ClassificationHead",
    "EMACallback",
    "HeadTrainer",
    "InputError",
    "LazyWeights",
    "PaintTrainer",
    "PaintTrainingArguments",
    "PatchOptions",
    "PatchResult",
    "PushOptions",
    "SWACallback",
    "SceneStyle",
    "Task",
    "TypographicAttack",
    "ZeroShotHead",
    "add_task_vectors",
    "apply_patch",
    "build_zero_shot_head",
    "combine",
    "combine_adapters",
    "combine_checkpoints",
    "compare_runs",
    "convert_open_clip",
    "corrupted",
    "dare",
    "draw_scene",
    "effective_robustness",
    "ensemble_logits",
    "estimate_fisher",
    "evaluate_ensemble",
    "evaluate_tasks",
    "extract_lora",
    "fit_baseline",
    "get_task",
    "greedy_soup",
    "interpolate",
    "interpolate_adapter",
    "interpolate_checkpoints",
    "interpolate_fisher",
    "interpolate_layerwise",
    "interpolate_model_stock",
    "interpolated",
    "layer_index",
    "learned_soup",
    "lines_alphas",
    "list_tasks",
    "load_classifier",
    "load_curve",
    "patch_joint",
    "patch_parallel",
    "patch_sequential",
    "patch_single",
    "prepare_task",
    "push_variants",
    "read_vqa",
    "relative_robustness",
    "robustness_table",
    "scale_adapter",
    "search_coefficients",
    "sweep_alphas",
    "ties",
    "uniform_soup",
    "write_counting_task",
    "write_questions_task",
    "write_shapes_task",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'hf_paint' has no attribute '{name}'")
    return getattr(import_module(f"hf_paint.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
