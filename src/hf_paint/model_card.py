"""The card of a patched model: every number in it comes from the records of the run."""

import platform
from collections.abc import Collection, Mapping
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from hf_paint.alphas import Alpha, Coefficients, alpha_to_json, format_alpha
from hf_paint.bootstrap import NUM_RESAMPLES
from hf_paint.card_sentences import POINTS, claim, method_sentence, selection_sentence, where
from hf_paint.card_source import CardSource, is_repo_id
from hf_paint.card_tables import answer_type_rows
from hf_paint.curve import AlphaCurve
from hf_paint.curve_metadata import curve_to_metadata
from hf_paint.definitions import LOCAL_FILES
from hf_paint.tasks import Task


TEMPLATE = files("hf_paint") / "model_card_template.md"
VERSIONED = ("hf-paint", "torch", "transformers", "accelerate", "datasets", "huggingface_hub")

PUBLIC_KEYS = (
    *(
        "model",
        "strategy",
        "patching_tasks",
        "supported_tasks",
        "transfer_tasks",
        "shift_tasks",
        "alphas",
        "selection",
    ),
    *(
        "tolerance",
        "thetas",
        "search",
        "search_budget",
        "task_sampling",
        "save_dtype",
        "precision",
        "learning_rate",
        "weight_decay",
        "max_steps",
        "num_train_epochs",
    ),
    *("warmup_steps", "per_device_train_batch_size", "gradient_accumulation_steps", "lr_scheduler_type", "optim"),
    *("label_smoothing_factor", "max_grad_norm", "augmentation", "decay_all_parameters", "adam_beta1", "adam_beta2"),
    *("adam_epsilon", "train_sampling_strategy", "task_sampling", "sampling_temperature", "seed", "data_seed"),
    *("bf16", "fp16", "base_fingerprint"),
)
"""The keys of a recipe that a card shows: those that decide the numbers; no path and no secret of theirs is shown."""


def render_model_card(
    source: CardSource,
    *,
    alpha: Alpha | None = None,
    repo_id: str | None = None,
    branches: Mapping[str, Alpha] = MappingProxyType({}),
    delta: str | None = None,
) -> str:
    """Return the text of the card, metadata included.

    Args:
        source: What the card is made of.
        alpha: The alpha of this model; the one that was chosen by default.
        repo_id: Where the model will be on the Hub.
        branches: The branches of that repository that hold alphas, `main` not among them.
        delta: The fingerprint of the patch, for the card of a repository that holds `theta_1 - theta_0` alone.

    Raises:
        InputError: If the curve lacks a record that the card needs.
    """
    alpha = source.selected if alpha is None else alpha
    patching = _patched_tasks(source, alpha)
    name = f"{(source.base_model_id or 'CLIP').split('/')[-1]} patched on {', '.join(t.name for t in patching)}"
    base_link = f"[{source.base_model_id}](https://huggingface.co/{source.base_model_id})"
    card = ModelCard.from_template(
        _metadata(source, name, alpha, delta),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=name,
        split=source.split,
        claim=claim(source.curve, alpha, source.split),
        method=method_sentence(source.strategy, [task.name for task in patching], alpha),
        points=POINTS.get(source.strategy, "alpha"),
        patching_names=", ".join(task.name for task in patching),
        alpha=format_alpha(alpha),
        selected=format_alpha(source.selected),
        is_selected=alpha == source.selected,
        model_id=repo_id or "path/or/id/of/this/model",
        revision=next((name for name, held in branches.items() if held == alpha != source.selected), None),
        branches=list(branches),
        delta=delta is not None,
        base_model_id=source.base_model_id,
        example_labels=repr(list(source.class_names[:3])),
        example_template=repr(patching[0].templates[0]),
        example_prompt=patching[0].templates[0] if patching[0].choices_column is None else patching[0].prompt,
        table=source.curve.to_markdown(source.split, selected=alpha),
        plot=source.plot,
        gains=_gain_rows(source.curve, alpha, source.split),
        answer_types=answer_type_rows(source.curve, alpha, source.split),
        num_resamples=NUM_RESAMPLES,
        selection=selection_sentence(source.strategy, source.selection),
        recipe=_public_recipe(source).strip(),
        versions=list((source.versions or environment()).items()),
        sources=[source_row(task) for task in source.tasks],
        base=base_link if source.base_model_id else "a CLIP model that is not on the Hub",
        base_license=source.base_license or "not stated",
        precision=" and ".join(sorted({result.precision for result in source.curve.results})),
        save_dtype=source.save_dtype,
        citations=list(dict.fromkeys(task.citation.strip() for task in source.tasks if task.citation)),
    )
    return str(card)


def environment() -> dict[str, str]:
    """Return the versions of what a run depends on."""
    return {package: version(package) for package in VERSIONED} | {"python": platform.python_version()}


def accuracy_result(name: str, task: Task | None, accuracy: float, *, split: str, metric_name: str) -> EvalResult:
    """Return an accuracy as the metadata of a card has it; the task is None where only its name is known."""
    return EvalResult(
        task_type="zero-shot-image-classification",
        task_name="Zero-shot image classification",
        dataset_type=(task and dataset_id(task)) or name,
        dataset_name=name,
        dataset_split=split,
        metric_type="accuracy",
        metric_name=metric_name,
        metric_value=round(accuracy, 6),
    )


def _patched_tasks(source: CardSource, alpha: Alpha) -> list[Task]:
    """Return the tasks on which a model was patched: a step of sequential patching knows none of those after it."""
    names: Collection[str] = source.curve.tasks.get("patching", [])
    if source.strategy == "sequential" and isinstance(alpha, Coefficients):
        names = alpha
    return [task for task in source.tasks if task.name in names]


def _metadata(source: CardSource, name: str, alpha: Alpha, delta: str | None) -> ModelCardData:
    results = [
        accuracy_result(
            task.name,
            task,
            result.accuracy,
            split=source.split,
            metric_name=f"top-1 accuracy at {where(alpha)}",
        )
        for result in source.curve.results
        if (result.alpha, result.split) == (alpha, source.split) and result.exact
        for task in source.tasks
        if task.name == result.task
    ]
    return ModelCardData(
        model_name=name,
        base_model=source.base_model_id,
        base_model_relation=_relation(alpha, delta) if source.base_model_id else None,
        library_name="hf_paint" if delta else "transformers",
        pipeline_tag="zero-shot-image-classification",
        license=source.base_license,
        datasets=sorted({found for task in source.tasks if (found := dataset_id(task))}) or None,
        metrics=["accuracy"],
        tags=["clip", "hf_paint", "merge", "paint"],
        eval_results=results or None,
        hf_paint={
            "alpha": alpha_to_json(alpha),
            "selected_alpha": alpha_to_json(source.selected),
            "weights": delta or source.fingerprint(alpha),
            "base_fingerprint": source.recipe.get("base_fingerprint"),
            "curve": curve_to_metadata(source.curve),
        },
    )


def _relation(alpha: Alpha, delta: str | None) -> str:
    if delta:
        return "adapter"
    return "finetune" if alpha == 1 else "merge"


def _gain_rows(curve: AlphaCurve, alpha: Alpha, split: str) -> list[dict[str, Any]]:
    rows = []
    for gain in curve.gains(alpha, split):
        before, after = (
            curve.get(0.0, gain.role, gain.task, gain.split),
            curve.get(alpha, gain.role, gain.task, gain.split),
        )
        if before is not None and after is not None:
            interval = (
                "" if gain.low is None or gain.high is None else f" ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
            )
            rows.append(
                {
                    "task": gain.task,
                    "role": gain.role,
                    "total": after.total,
                    "before": f"{100 * before.accuracy:.2f}",
                    "after": f"{100 * after.accuracy:.2f}",
                    "gain": f"{100 * gain.gain:+.2f}{interval}",
                }
            )
    return rows


def _public_recipe(source: CardSource) -> str:
    """Return the part of the recipe that decides the numbers, as YAML, with nothing of the machine that ran it."""
    recipe = {key: source.recipe[key] for key in PUBLIC_KEYS if key in source.recipe}
    recipe["model"] = source.base_model_id or "a local folder"
    for key in ("patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks"):
        if key in recipe:
            recipe[key] = [_task_name(task) for task in recipe[key]]
    if "thetas" in recipe:
        thetas = recipe["thetas"].items()
        recipe["thetas"] = {task: name if is_repo_id(name) else "a local folder" for task, name in thetas}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _task_name(task: str | Mapping[str, Any]) -> str:
    return str(task["name"]) if isinstance(task, Mapping) else Path(task).name


def source_row(task: Task) -> dict[str, str]:
    """Return the row of a task in the table of data sets and licences."""
    on_the_hub = dataset_id(task)
    link = f"[{on_the_hub}](https://huggingface.co/datasets/{on_the_hub})" if on_the_hub else "local files"
    return {
        "task": task.name,
        "dataset": task.homepage or link if not on_the_hub else link,
        "license": task.license or "not stated",
    }


def dataset_id(task: Task) -> str | None:
    """Return the id of the data set on the Hub, or None for local files."""
    return task.dataset if task.dataset not in LOCAL_FILES and is_repo_id(task.dataset) else None
