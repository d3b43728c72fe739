"""Patch open-vocabulary models: fine-tune CLIP on one task, interpolate the weights, keep everything else.

Public names are imported on first use, so code that does not need torch starts without loading it.
"""

from importlib import import_module
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from hf_paint.adapters import (
        apply_patch as apply_patch,
        combine_adapters as combine_adapters,
        extract_lora as extract_lora,
        interpolate_adapter as interpolate_adapter,
        save_patch as save_patch,
        scale_adapter as scale_adapter,
    )
    from hf_paint.data.summary import summarize as summarize
    from hf_paint.errors import InputError as InputError
    from hf_paint.evaluation import (
        check_model as check_model,
        ensemble_logits as ensemble_logits,
        evaluate_ensemble as evaluate_ensemble,
        evaluate_tasks as evaluate_tasks,
        prepare_task as prepare_task,
        sweep_alphas as sweep_alphas,
    )
    from hf_paint.hub import PushOptions as PushOptions, load_curve as load_curve, push_variants as push_variants
    from hf_paint.merging import (
        EMACallback as EMACallback,
        SWACallback as SWACallback,
        adamerging as adamerging,
        add_task_vectors as add_task_vectors,
        collect_grams as collect_grams,
        combine as combine,
        dare as dare,
        estimate_fisher as estimate_fisher,
        greedy_soup as greedy_soup,
        interpolate as interpolate,
        interpolate_fisher as interpolate_fisher,
        interpolate_layerwise as interpolate_layerwise,
        interpolate_model_stock as interpolate_model_stock,
        interpolated as interpolated,
        iso_c as iso_c,
        iso_cts as iso_cts,
        learned_soup as learned_soup,
        lines_alphas as lines_alphas,
        merge_by_projection as merge_by_projection,
        regmean as regmean,
        ties as ties,
        tsv as tsv,
        uniform_soup as uniform_soup,
    )
    from hf_paint.models import (
        CandidateHead as CandidateHead,
        ClassificationHead as ClassificationHead,
        LazyWeights as LazyWeights,
        ZeroShotHead as ZeroShotHead,
        build_zero_shot_head as build_zero_shot_head,
        convert_open_clip as convert_open_clip,
        load_classifier as load_classifier,
    )
    from hf_paint.patching import (
        PatchOptions as PatchOptions,
        PatchResult as PatchResult,
        patch as patch,
        patch_joint as patch_joint,
        patch_parallel as patch_parallel,
        patch_sequential as patch_sequential,
        patch_single as patch_single,
        select_alpha as select_alpha,
    )
    from hf_paint.report import write_report as write_report
    from hf_paint.results import (
        AlphaCurve as AlphaCurve,
        effective_robustness as effective_robustness,
        fit_baseline as fit_baseline,
        relative_robustness as relative_robustness,
        robustness_table as robustness_table,
    )
    from hf_paint.results.comparison import compare_runs as compare_runs
    from hf_paint.results.outcome import Outcome as Outcome
    from hf_paint.results.search import search_coefficients as search_coefficients
    from hf_paint.tasks import (
        Task as Task,
        TypographicAttack as TypographicAttack,
        corrupted as corrupted,
        get_task as get_task,
        list_task_groups as list_task_groups,
        list_tasks as list_tasks,
    )
    from hf_paint.tasks.scene_tasks import (
        write_counting_task as write_counting_task,
        write_questions_task as write_questions_task,
        write_shapes_task as write_shapes_task,
    )
    from hf_paint.tasks.scenes import SceneStyle as SceneStyle, draw_scene as draw_scene
    from hf_paint.tasks.vqa import read_vqa as read_vqa
    from hf_paint.training import (
        HeadTrainer as HeadTrainer,
        PaintTrainer as PaintTrainer,
        PaintTrainingArguments as PaintTrainingArguments,
    )
    from hf_paint.weights import (
        combine_checkpoints as combine_checkpoints,
        interpolate_checkpoints as interpolate_checkpoints,
        layer_index as layer_index,
    )

__version__ = "0.1.0"

_PACKAGES = {
    "data.summary": ("summarize",),
    "errors": ("InputError",),
    "tasks": (
        "Task",
        "TypographicAttack",
        "corrupted",
        "get_task",
        "list_task_groups",
        "list_tasks",
    ),
    "tasks.scene_tasks": ("write_counting_task", "write_questions_task", "write_shapes_task"),
    "tasks.scenes": ("SceneStyle", "draw_scene"),
    "tasks.vqa": ("read_vqa",),
    "weights": (
        "combine_checkpoints",
        "interpolate_checkpoints",
        "layer_index",
    ),
    "results": (
        "AlphaCurve",
        "effective_robustness",
        "fit_baseline",
        "relative_robustness",
        "robustness_table",
    ),
    "report": ("write_report",),
    "results.comparison": ("compare_runs",),
    "results.outcome": ("Outcome",),
    "results.search": ("search_coefficients",),
    "models": (
        "CandidateHead",
        "ClassificationHead",
        "LazyWeights",
        "ZeroShotHead",
        "build_zero_shot_head",
        "convert_open_clip",
        "load_classifier",
    ),
    "merging": (
        "EMACallback",
        "SWACallback",
        "adamerging",
        "add_task_vectors",
        "collect_grams",
        "combine",
        "dare",
        "estimate_fisher",
        "greedy_soup",
        "interpolate",
        "interpolate_fisher",
        "interpolate_layerwise",
        "interpolate_model_stock",
        "interpolated",
        "iso_c",
        "iso_cts",
        "learned_soup",
        "lines_alphas",
        "merge_by_projection",
        "regmean",
        "ties",
        "tsv",
        "uniform_soup",
    ),
    "adapters": (
        "apply_patch",
        "combine_adapters",
        "extract_lora",
        "interpolate_adapter",
        "save_patch",
        "scale_adapter",
    ),
    "evaluation": (
        "check_model",
        "ensemble_logits",
        "evaluate_ensemble",
        "evaluate_tasks",
        "prepare_task",
        "sweep_alphas",
    ),
    "hub": (
        "PushOptions",
        "load_curve",
        "push_variants",
    ),
    "training": (
        "HeadTrainer",
        "PaintTrainer",
        "PaintTrainingArguments",
    ),
    "patching": (
        "PatchOptions",
        "PatchResult",
        "patch",
        "patch_joint",
        "patch_parallel",
        "patch_sequential",
        "patch_single",
        "select_alpha",
    ),
}
_PACKAGE_OF = {name: package for package, names in _PACKAGES.items() for name in names}

if not TYPE_CHECKING:  # a type checker reads the imports above, and reports a name that is not among them
    __all__ = sorted(_PACKAGE_OF)

    def __getattr__(name: str) -> object:
        if name not in _PACKAGE_OF:
            raise AttributeError(f"module 'hf_paint' has no attribute '{name}'")
        return getattr(import_module(f"hf_paint.{_PACKAGE_OF[name]}"), name)

    def __dir__() -> list[str]:
        return sorted([*globals(), *__all__])
