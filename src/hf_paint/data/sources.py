"""Load the rows of a task from the Hub or from local files, optionally as a stream."""

from typing import TypedDict

from datasets import Dataset, IterableDataset, load_dataset, load_dataset_builder

from hf_paint.data.typographic_folder import read_typographic_folder
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


class SourceArguments(TypedDict):
    """Arguments of `datasets.load_dataset` that identify a data set."""

    path: str
    name: str | None
    data_files: dict[str, str | list[str]] | None
    data_dir: str | None
    revision: str | None


def load_rows(task: Task, source: str) -> Dataset | IterableDataset:
    """Load one split of a task's data set.

    Raises:
        InputError: If the split cannot be loaded or is empty.
    """
    if task.data_files is not None and source not in task.data_files:
        raise InputError(
            f"`data_files` of task '{task.name}' lists no files for the split '{source}', only for "
            f"{', '.join(task.data_files)}. Add files for it, or set the split to null in `splits`."
        )
    if isinstance(task, TypographicTask) and task.dataset == "typographic_folder":
        return read_typographic_folder(task, source)
    try:
        return load_dataset(**_source_arguments(task), split=source, streaming=task.streaming)
    except Exception as error:  # datasets raises a dozen types of errors if a data set cannot be loaded
        message = one_line(error)
        problem = "is empty" if "corresponds to no data" in message else f"cannot be loaded: {message}"
        raise InputError(f"The split '{source}' of '{task.dataset}' (task '{task.name}') {problem}.") from error


def stream_length(task: Task, source: str) -> int:
    """Return the number of rows in a streamed split.

    Raises:
        InputError: If the data set does not report the number of rows.
    """
    splits = load_dataset_builder(**_source_arguments(task)).info.splits or {}
    if source not in splits or not splits[source].num_examples:
        raise InputError(
            f"'{task.dataset}' does not report the number of rows in '{source}', so task '{task.name}' cannot take an "
            "`auto` validation split from the stream. Set `validation` to a split of the data set, or to null."
        )
    return int(splits[source].num_examples)


def stream_fingerprint(task: Task, name: str) -> str:
    """Return a fingerprint of a stream, which covers the files, their versions and the selection of rows."""
    builder = load_dataset_builder(**_source_arguments(task))
    splits = [task.splits.train, task.splits.validation, task.splits.test]
    return fingerprint_values(builder.cache_dir, name, splits)


def stream_files(task: Task, source: str) -> list[str]:
    """Return the paths or addresses of the files that one split of a stream is read from."""
    builder = load_dataset_builder(**_source_arguments(task))
    files = builder.config.data_files or {}
    return [str(file) for file in files[source]] if source in files else [str(builder.cache_dir)]


def check_columns(task: Task, rows: Dataset | IterableDataset) -> None:
    """Check that the data set has all columns that the task names."""
    columns = rows.column_names
    if columns is None:
        return
    wanted = {"image_column": task.image_column, "group_column": task.group_column} | task.label_columns()
    wanted |= {f"where: {column}": column for column in task.where or {}}
    for key, column in wanted.items():
        if column is not None and column not in columns:
            raise InputError(
                f"'{task.dataset}' has no column '{column}'; its columns are {', '.join(columns)}."
                f"{did_you_mean(column, columns)} Correct `{key}` of task '{task.name}'."
            )


def _source_arguments(task: Task) -> SourceArguments:
    return {
        "path": task.dataset,
        "name": task.config,
        "data_files": dict(task.data_files) if task.data_files else None,
        "data_dir": task.data_dir,
        "revision": task.revision,
    }
