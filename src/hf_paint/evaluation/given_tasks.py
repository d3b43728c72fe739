"""Tasks to evaluate as a caller gives them: names, paths, definitions, tasks, or data sets in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from datasets import Dataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.in_memory import whole_task
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_task
from hf_paint.tasks.references import is_in_memory
from hf_paint.tasks.registry import TaskLike, each_reference, get_tasks


EvaluationSet: TypeAlias = TaskLike | Dataset | PreparedTask
"""A task, prepared or not, or what names one (see `get_task`)."""
EvaluationSets: TypeAlias = EvaluationSet | Iterable[EvaluationSet] | Mapping[str, EvaluationSet]
"""One of them, several, or name -> one of them."""
DEFINITION_KEYS = ("dataset", "extends", "corrupted")
"""Every task definition has one of these keys, which tells it from a mapping of names to tasks."""


def prepare_given(
    given: EvaluationSets,
    model: PreTrainedModel,
    processor: ProcessorMixin,
    *,
    splits: Sequence[str],
    max_images: int | None = None,
) -> list[PreparedTask]:
    """Prepare tasks and data sets for evaluation (see `prepare_task`).

    Args:
        given: What to evaluate. In a mapping, the keys are the names under which the metrics appear. A `DatasetDict`
            is such a mapping, unless it has a split `train`.
        model: Model whose text tower is used to build the heads.
        processor: Processor for the model.
        splits: Splits of the tasks to load; data in memory without splits count as the first of them.
        max_images: Maximum number of images per split (see `prepare_task`); prepared tasks stay as they are.

    Raises:
        InputError: If a task or data set cannot be used.
    """
    prepared = []
    for name, item in _named(given):
        if isinstance(item, PreparedTask):
            prepared.append(item)
            continue
        for task in [whole_task(item, name, split=splits[0])] if is_in_memory(item) else get_tasks([item]):
            named = replace(task, name=name) if name else task
            prepared.append(prepare_task(named, model, processor, splits=splits, max_images=max_images))
    return prepared


def _named(given: EvaluationSets) -> Iterator[tuple[str | None, EvaluationSet]]:
    """Yield each task or data set with the name it is given, if any."""
    if isinstance(given, Mapping) and not any(key in given for key in (*DEFINITION_KEYS, "train")):
        yield from given.items()
    elif isinstance(given, PreparedTask):
        yield None, given
    else:
        items = list(each_reference(given))
        numbered = sum(is_in_memory(item) for item in items) > 1
        for number, item in enumerate(items, 1):
            yield (f"dataset-{number}" if numbered and is_in_memory(item) else None), item
