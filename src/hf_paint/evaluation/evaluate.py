"""Evaluate a model on tasks."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.given_tasks import EvaluationSets, prepare_given
from hf_paint.evaluation.precision import PrecisionChoice, compare_precisions
from hf_paint.evaluation.predictions import score
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.given import ModelLike, load_given
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.records import Result


def evaluate_tasks(
    model: ModelLike,
    tasks: EvaluationSets,
    *,
    processor: ProcessorMixin | None = None,
    split: str = "test",
    precision: PrecisionChoice = "fp32",
    batch_size: int | None = None,
    accelerator: Accelerator | None = None,
    max_eval_images: int | None = None,
) -> list[Result]:
    """Evaluate a model on tasks, using all processes started by the launcher.

    Args:
        model: Model with both an image and a text tower: in memory, a folder, a run folder (for its patched model),
            a Hub repository id or `id@revision`.
        tasks: Tasks to evaluate: tasks, names, paths or definitions (see `get_task`), or data sets in memory, each a
            `datasets.Dataset` with an image column and a label column.
        processor: Processor for the model; by default, the one stored with it.
        split: Split to evaluate, `validation` or `test`.
        precision: Precision of the forward pass. Logits and metrics are always float32. `auto` uses `bf16` if its
            predictions agree with `fp32` on a sample of the images and it is faster.
        batch_size: Number of images per process and forward pass; by default 128, and on a GPU more for small towers.
        accelerator: Accelerator to use. By default, a new one is created.
        max_eval_images: Maximum number of images per task, drawn by class and always the same; by default, all.

    Returns:
        One result per task, with alpha 0. All processes get the same results.

    Raises:
        InputError: If the model or a task cannot be used, or a task does not have this split.

    Example:
        >>> [result] = evaluate_tasks(model_folder, [task])
        >>> result.total
        40
    """
    evaluator = Evaluator(accelerator or Accelerator(), batch_size=batch_size)
    loaded, processor = load_given(model, processor)
    prepared = prepare_given(tasks, loaded, processor, splits=(split,), max_images=max_eval_images)
    return [each.result for each in evaluate_each(loaded, prepared, split, evaluator, precision=precision)]


@dataclass(frozen=True, slots=True, eq=False)
class Evaluated:
    """The record of a model on one task, and whether each counted image is correct (see `Predictions`)."""

    result: Result
    correct: NDArray[np.bool_]


def evaluate_each(
    model: PreTrainedModel,
    prepared: list[PreparedTask],
    split: str,
    evaluator: Evaluator,
    *,
    precision: PrecisionChoice = "fp32",
) -> Iterator[Evaluated]:
    """Evaluate a model on one split of prepared tasks, in their order."""
    for task in prepared:
        if split in task.task.unlabelled:
            raise InputError(f"The {split} split of task '{task.task.name}' is `unlabelled`, so it has no accuracy.")
    weights = fingerprint_weights(image_tower_weights(model))
    if precision == "auto":
        precision = compare_precisions([image_tower(model)], prepared, evaluator).precision
    evaluator = evaluator.with_precision(precision)
    tower = evaluator.carrier(image_tower(model))
    total = sum(len(task.images[split]) for task in prepared)
    evaluator.expect(tower, total)
    with evaluator.progress.over(total, "Evaluating"):
        for task in prepared:
            evaluator.progress.note(task.task.name)
            pending = evaluator.pending(task, split, alpha=0.0, weights=weights)
            predictions = evaluator.predict(tower, task, split)
            result = replace(pending, **score(predictions, task, split).to_dict())
            yield Evaluated(result, predictions.correct)
