"""Evaluation of a model on tasks."""

from collections.abc import Sequence
from dataclasses import replace

from accelerate import Accelerator
from tqdm.auto import tqdm
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.precision import PrecisionChoice, compare_precisions
from hf_paint.evaluation.predictions import score
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.records import Result
from hf_paint.tasks.task import Task


def evaluate_tasks(
    model: PreTrainedModel,
    tasks: Sequence[Task],
    *,
    processor: ProcessorMixin,
    split: str = "test",
    precision: PrecisionChoice = "fp32",
    batch_size: int = 128,
    accelerator: Accelerator | None = None,
) -> list[Result]:
    """Evaluate a model on tasks, over all processes of the launcher.

    Args:
        model: The model, both towers.
        tasks: The tasks.
        processor: The processor of the model.
        split: `validation` or `test`.
        precision: The arithmetic of the forward pass; logits and metrics are always float32. `auto` chooses `bf16` if
            it agrees with `fp32` on a sample of the images and is faster.
        batch_size: Images per process and forward pass.
        accelerator: The accelerator; by default a new one.

    Returns:
        One result per task, equal on every process, with alpha 0.

    Raises:
        InputError: If a task cannot be used or does not have the split.

    Example:
        >>> [result] = evaluate_tasks(model, [task], processor=processor)
        >>> result.total
        40
    """
    accelerator = accelerator or Accelerator()
    model.eval()
    prepared = [prepare_task(task, model, processor, splits=(split,)) for task in tasks]
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
