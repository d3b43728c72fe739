"""Where the rows of a task come from: its data set on the Hub or on the disk, whole or as a stream."""

from typing import Any

from datasets import Dataset, IterableDataset, load_dataset, load_dataset_builder

from hf_paint.choices import label_columns
from hf_paint.errors import InputError, did_you_mean
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task
from hf_paint.typographic_folder import read_typographic_folder


def _source_arguments(task: Task) -> dict[str, Any]:
    data_files = dict(task.data_files) if task.data_files else None
    return {
        "path": task.dataset,
        "name": task.config,
        "data_files": data_files,
        "data_dir": task.data_dir,
        "revision": task.revision,
    }


def load_rows(task: Task, source: str) -> Dataset | IterableDataset:
    """Load one split of the data set of a task.

    Raises:
        InputError: If it cannot be loaded, or is empty.
    """
    if task.data_files is not None and source not in task.data_files:
        raise InputError(
            f"Task '{task.name}' has no data files for the split '{source}'; it lists {', '.join(task.data_files)}."
        )
    if task.dataset == "typographic_folder":
        return read_typographic_folder(task, source)
    try:
        return load_dataset(**_source_arguments(task), split=source, streaming=task.streaming)
    except Exception as error:  # datasets raises a dozen types for one thing: it cannot be loaded
        message = " ".join(str(error).split())[:300]
        problem = "is empty" if "corresponds to no data" in message else f"cannot be loaded: {message}"
        raise InputError(f"The split '{source}' of '{task.dataset}' (task '{task.name}') {problem}.") from error


def stream_length(task: Task, source: str) -> int:
    """Return how many rows a split has that is read as a stream.

    Raises:
        InputError: If the data set does not say.
    """
    splits = load_dataset_builder(**_source_arguments(task)).info.splits or {}
    if source not in splits or not splits[source].num_examples:
        raise InputError(
            f"'{task.dataset}' does not say how many rows '{source}' has, so task '{task.name}' cannot draw an `auto` "
            "validation split from the stream. Name a validation split, or set `validation: null`."
        )
    return int(splits[source].num_examples)


def stream_fingerprint(task: Task, name: str) -> str:
    """Fingerprint of a stream: the files behind it, with their versions, and which of its rows are read."""
    builder = load_dataset_builder(**_source_arguments(task))
    splits = [task.splits.train, task.splits.validation, task.splits.test]
    return fingerprint_values(builder.cache_dir, name, splits)


def check_columns(task: Task, rows: Dataset | IterableDataset) -> None:
    """Refuse a task that names a column which is not there."""
    columns = rows.column_names
    if columns is None:
        return
    wanted = {"image_column": task.image_column, "group_column": task.group_column} | label_columns(task)
    wanted |= {f"where: {column}": column for column in task.where or {}}
    for key, column in wanted.items():
        if column is not None and column not in columns:
            raise InputError(
                f"Column '{column}' is not in '{task.dataset}' (columns: {', '.join(columns)})."
                f"{did_you_mean(column, columns)} Set `{key}` of task '{task.name}'."
            )
