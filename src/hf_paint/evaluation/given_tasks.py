"""Tasks to evaluate as a caller gives them: names, paths, definitions, tasks, or data sets in memory."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

from datasets import Dataset, IterableDataset
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.in_memory import split_of
from hf_paint.evaluation.prepared_task import PreparedTask, prepare_splits, prepare_task
from hf_paint.tasks.registry import TaskLike, get_tasks
from hf_paint.tasks.task import Task


EvaluationSet: TypeAlias = TaskLike | Dataset | PreparedTask
"""A task (see `get_task`), prepared or not, or a `datasets.Dataset` with an image column and a label column."""
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
        given: What to evaluate. In a mapping, the keys are the names under which the metrics appear.
        model: Model whose text tower is used to build the heads.
        processor: Processor for the model.
        splits: Splits of the tasks to load; a data set in memory counts as the first of them.
        max_images: Maximum number of images per split (see `prepare_task`); prepared tasks stay as they are.

    Raises:
        InputError: If a task or data set cannot be used.
    """
    prepared = []
    for name, item in _named(given):
        if isinstance(item, PreparedTask):
            prepared.append(item)
            continue
        if isinstance(item, (Dataset, IterableDataset)):
            loaded = split_of(item, name or "dataset", split=splits[0])
            prepared.append(prepare_splits({splits[0]: loaded}, model, processor, max_images=max_images))
            continue
        for task in get_tasks([item]):
            named = replace(task, name=name) if name else task
            prepared.append(prepare_task(named, model, processor, splits=splits, max_images=max_images))
    return prepared


def _named(given: EvaluationSets) -> Iterator[tuple[str | None, EvaluationSet]]:
    """Yield each task or data set with the name it is given, if any."""
    if isinstance(given, Mapping) and not any(key in given for key in DEFINITION_KEYS):
        yield from given.items()
    elif isinstance(given, (str, Path, Mapping, Task, PreparedTask, Dataset, IterableDataset)):
        yield None, given
    else:
        items = list(given)
        numbered = sum(isinstance(item, Dataset) for item in items) > 1
        for number, item in enumerate(items, 1):
            yield (f"dataset-{number}" if numbered and isinstance(item, Dataset) else None), item
