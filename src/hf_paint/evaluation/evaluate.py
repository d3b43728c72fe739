"""Evaluate a model on tasks."""

from dataclasses import replace

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.given_tasks import EvaluationSets, prepare_given
from hf_paint.evaluation.precision import PrecisionChoice, compare_precisions
from hf_paint.evaluation.predictions import score
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.records import Result


def evaluate_tasks(
    model: PreTrainedModel,
    tasks: EvaluationSets,
    *,
    processor: ProcessorMixin,
    split: str = "test",
    precision: PrecisionChoice = "fp32",
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
    max_eval_images: int | None = None,
) -> list[Result]:
    """Evaluate a model on tasks, using all processes started by the launcher.

    Args:
        model: Model with both an image and a text tower.
        tasks: Tasks to evaluate: tasks, names, paths or definitions (see `get_task`), or data sets in memory, each a
            `datasets.Dataset` with an image column and a label column.
        processor: Processor for the model.
        split: Split to evaluate, `validation` or `test`.
        precision: Precision of the forward pass. Logits and metrics are always float32. `auto` uses `bf16` if its
            predictions agree with `fp32` on a sample of the images and it is faster.
        batch_size: Number of images per process and forward pass.
        accelerator: Accelerator to use. By default, a new one is created.
        max_eval_images: Maximum number of images per task, drawn by class and always the same; by default, all.

    Returns:
        One result per task, with alpha 0. All processes get the same results.

    Raises:
        InputError: If a task cannot be used or does not have this split.

    Example:
        >>> [result] = evaluate_tasks(model, [task], processor=processor)
        >>> result.total
        40
    """
    accelerator = accelerator or Accelerator()
    model.eval()
    prepared = prepare_given(tasks, model, processor, splits=(split,), max_images=max_eval_images)
    weights = fingerprint_weights(image_tower_weights(model))
    if precision == "auto":
        check = compare_precisions([image_tower(model)], prepared, Evaluator(accelerator, batch_size=batch_size))
        precision = check.precision
    evaluator = Evaluator(accelerator, batch_size=batch_size, precision=precision)
    tower = evaluator.carrier(image_tower(model))
    results = []
    for task in tqdm(prepared, "Evaluating", unit="task", disable=not accelerator.is_local_main_process):
        pending = evaluator.pending(task, split, alpha=0.0, weights=weights)
        scores = score(evaluator.predict(tower, task, split), task, split)
        results.append(replace(pending, **scores.to_dict()))
    return results
