"""Card metadata: base model, `model-index`, and a machine-readable alpha curve."""

from collections.abc import Mapping
from dataclasses import replace

import yaml
from huggingface_hub import EvalResult, ModelCardData

from hf_paint.hub.card_source import CardSource
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha, alpha_phrase, alpha_to_json
from hf_paint.results.curve_metadata import curve_to_metadata
from hf_paint.results.extra_metrics import EXTRA_METRICS
from hf_paint.results.records import Result
from hf_paint.tasks.data_files import LOCAL_FILES
from hf_paint.tasks.task import Task


FIELDS: Mapping[str, str] = {
    "base_model": "Hub id of the base; after merging models that the run did not train, the Hub ids of these too.",
    "base_model_relation": "`merge`, `finetune` for the fine-tuned model itself, or `adapter` for a patch.",
    "library_name": "`transformers` for a model, `hf_paint` for a patch.",
    "pipeline_tag": "`zero-shot-image-classification`.",
    "license": "Licence of the base, if its card states one.",
    "datasets": "Hub ids of the data sets of all tasks; local data are not named.",
    "metrics": "`accuracy`, and the metrics that some kinds of tasks have beside it.",
    "tags": "`hf_paint`, `merge`, `paint` and the family of the model.",
    "model-index": "Each metric of each task at this alpha on the reported split, with the name of the model.",
    "hf_paint": "What this library reads again, see below.",
}
"""What each key in the metadata of a card says. A key without a value is left out."""
OWN_FIELDS: Mapping[str, str] = {
    "alpha": "Alpha of this model, or one coefficient per task.",
    "selected_alpha": "Alpha that the run chose, which is that of `main`.",
    "weights": "Fingerprint of the image tower or, on the card of a patch, of the patch.",
    "base_fingerprint": "Fingerprint of the image tower of the base.",
    "curve": "Counts of every task at every alpha, see below.",
    "applied": "On the card that `hf-paint apply` writes, beside `base_fingerprint` alone: each patch and its alpha.",
}
"""What each key of `hf_paint` in the metadata says."""


def accuracy_result(name: str, task: Task | None, accuracy: float, *, split: str, metric_name: str) -> EvalResult:
    """Return an accuracy as metadata; `task` is None if only its name is known."""
    return EvalResult(
        task_type="zero-shot-image-classification",
        task_name="Zero-shot image classification",
        dataset_type=(task and benchmark_id(task)) or name,
        dataset_name=name,
        dataset_split=split,
        metric_type="accuracy",
        metric_name=metric_name,
        metric_value=round(accuracy, 6),
    )


def metric_results(source: CardSource, alpha: Alpha) -> list[EvalResult]:
    """Return the accuracy and other metrics of every task at an alpha."""
    exact = [result for result in source.curve.results if result.exact]
    return [
        metric
        for task in source.tasks  # the order of records changes if some are measured again
        for result in exact
        if (result.alpha, result.split, result.task) == (alpha, source.split, task.name)
        for metric in _results_of(result, task, _place(result))
    ]


def _place(result: Result) -> str:
    """Return at which alpha and, of a sample, on how many images a record was measured."""
    place = alpha_phrase(result.alpha)
    return place if result.sample is None else f"{place}, on {result.num_images} images"


def _results_of(result: Result, task: Task, place: str) -> list[EvalResult]:
    name = f"top-1 accuracy at {place}"
    accuracy = accuracy_result(task.name, task, result.accuracy, split=result.split, metric_name=name)
    results, values = [accuracy], result.metrics
    for metric in EXTRA_METRICS:
        if metric.key in values:
            name, value = f"{metric.name} at {place}", round(values[metric.key], 6)
            results.append(replace(accuracy, metric_type=metric.hub_type, metric_name=name, metric_value=value))
    for kind, (correct, total) in (result.answer_types or {}).items():
        name = f"top-1 accuracy at {place}, answers of type {kind}"
        results.append(replace(accuracy, metric_name=name, metric_value=round(correct / total, 6)))
    return results


def eval_result_files(source: CardSource, alpha: Alpha) -> dict[str, str]:
    """Return the accuracies at an alpha in the Hub's format for evaluation results.

    Returns:
        Mapping from path to text, with one file in `.eval_results/` for each task that uses a Hub data set in full and
        was evaluated on all images of the split.
    """
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    tasks, texts = {task.name: task for task in source.tasks}, {}
    for result in source.curve.results:
        task = tasks.get(result.task)
        on_the_hub = benchmark_id(task) if task else None
        is_whole = result.sample is None
        if task and on_the_hub and is_whole and (result.alpha, result.split) == (alpha, source.split):
            entry = EvalResultEntry(
                dataset_id=on_the_hub,
                task_id=task.config or "default",
                value=round(100 * result.accuracy, 4),
                notes=f"top-1 accuracy on {result.split}, {alpha_phrase(alpha)}",
            )
            text = yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False)
            texts[f".eval_results/{task.name}.yaml"] = text
    return texts


def benchmark_id(task: Task) -> str | None:
    """Return the Hub id of a task's data set; None if the task changes images or uses a subset of classes."""
    return None if task.is_changed else dataset_id(task)


def dataset_id(task: Task) -> str | None:
    """Return the Hub id of a task's data set, or None for local files."""
    return task.dataset if task.dataset not in LOCAL_FILES and is_repo_id(task.dataset) else None


def metadata(source: CardSource, name: str, alpha: Alpha, delta: str | None) -> ModelCardData:
    """Return card metadata for the model at an alpha, or for a patch with the fingerprint `delta`."""
    results = metric_results(source, alpha)
    return ModelCardData(
        model_name=name,
        base_model=_base_models(source),
        base_model_relation=_relation(source, alpha, delta) if source.base_model_id else None,
        library_name="hf_paint" if delta else "transformers",
        pipeline_tag="zero-shot-image-classification",
        license=source.base_license,
        datasets=sorted(set(filter(None, map(dataset_id, [*source.tasks, *source.replay_tasks])))) or None,
        metrics=list(dict.fromkeys(["accuracy", *(result.metric_type for result in results)])),
        tags=[source.model_type, "hf_paint", "merge", "paint"],
        eval_results=results or None,
        hf_paint={
            "alpha": alpha_to_json(alpha),
            "selected_alpha": alpha_to_json(source.selected),
            "weights": delta or source.fingerprint(alpha),
            "base_fingerprint": source.recipe.get("base_fingerprint"),
            "curve": curve_to_metadata(source.curve),
        },
    )


def _base_models(source: CardSource) -> str | list[str] | None:
    """Return the Hub ids of the base and of the models that this run did not train."""
    others = [name for name in source.thetas.values() if name]
    return [source.base_model_id, *others] if source.base_model_id and others else source.base_model_id


def _relation(source: CardSource, alpha: Alpha, delta: str | None) -> str:
    if delta:
        return "adapter"
    return "finetune" if alpha == 1 and not source.method.merges else "merge"
