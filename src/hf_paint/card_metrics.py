"""The metrics of a card for the Hub: what its `model-index` says of every task."""

from dataclasses import replace

from huggingface_hub import EvalResult

from hf_paint.card_sentences import where
from hf_paint.card_source import CardSource
from hf_paint.repositories import is_repo_id
from hf_paint.results.alphas import Alpha
from hf_paint.results.records import Result
from hf_paint.tasks.definitions import LOCAL_FILES
from hf_paint.tasks.task import Task


METRIC_TYPES = {"attack_success": "attack_success", "mean_absolute_error": "mae"}
"""Beside accuracy: metric of a record -> what the Hub calls it."""


def accuracy_result(name: str, task: Task | None, accuracy: float, *, split: str, metric_name: str) -> EvalResult:
    """Return an accuracy as the metadata of a card has it; the task is None where only its name is known."""
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
    """Return the metrics of an alpha: of every task its accuracy, and what else it has."""
    tasks = {task.name: task for task in source.tasks}
    return [
        found
        for result in source.curve.results
        if (result.alpha, result.split) == (alpha, source.split) and result.exact and result.task in tasks
        for found in _results_of(result, tasks[result.task], where(alpha))
    ]


def _results_of(result: Result, task: Task, place: str) -> list[EvalResult]:
    name = f"top-1 accuracy at {place}"
    accuracy = accuracy_result(task.name, task, result.accuracy, split=result.split, metric_name=name)
    found, values = [accuracy], result.metrics
    for key, kind in METRIC_TYPES.items():
        if key in values:
            name = f"{key.replace('_', ' ')} at {place}"
            found.append(replace(accuracy, metric_type=kind, metric_name=name, metric_value=round(values[key], 6)))
    for kind, (correct, total) in (result.answer_types or {}).items():
        name = f"top-1 accuracy at {place}, answers of type {kind}"
        found.append(replace(accuracy, metric_name=name, metric_value=round(correct / total, 6)))
    return found


def benchmark_id(task: Task) -> str | None:
    """Return the id of the data set whose accuracy that of the task is: none for changed images, or some classes."""
    is_changed = task.corruption or task.attack or task.class_split or task.only_classes
    return None if is_changed else dataset_id(task)


def dataset_id(task: Task) -> str | None:
    """Return the id of the data set on the Hub, or None for local files."""
    return task.dataset if task.dataset not in LOCAL_FILES and is_repo_id(task.dataset) else None
