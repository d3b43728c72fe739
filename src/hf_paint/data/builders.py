"""The builders with which `datasets` opens data sets; a run makes one per data set, however often it asks."""

from functools import partial
from typing import TypedDict

from datasets import Dataset, DatasetBuilder, load_dataset_builder

from hf_paint.data.read_once import ReadOnce
from hf_paint.data.row_ids import version_of
from hf_paint.errors import InputError
from hf_paint.tasks.data_files import LOCAL_FILES
from hf_paint.tasks.task import Task


class SourceArguments(TypedDict):
    """Arguments of `datasets.load_dataset` that identify a data set."""

    path: str
    name: str | None
    data_files: dict[str, str | list[str]] | None
    data_dir: str | None
    revision: str | None


_made: ReadOnce[SourceArguments, DatasetBuilder] = ReadOnce()


def source_arguments(task: Task) -> SourceArguments:
    """Return the arguments that identify the data set of a task.

    Raises:
        InputError: If the task reads pickles.
    """
    if task.dataset == "pandas":
        raise InputError(
            f"Task '{task.name}' reads pickles (`dataset: pandas`), which can run any code. Write the data as Parquet."
        )
    return {
        "path": task.dataset,
        "name": task.config or _version(task),
        "data_files": dict(task.data_files) if task.data_files else None,
        "data_dir": task.data_dir,
        "revision": task.revision,
    }


def builder_of(task: Task) -> DatasetBuilder:
    """Return the builder of a task's data set, which knows its files and its configuration.

    Raises:
        Exception: Of a dozen types, if the data set cannot be opened.
    """
    arguments = source_arguments(task)
    return _made.get(task.dataset, arguments, partial(load_dataset_builder, **arguments))


def load_split(task: Task, source: str) -> Dataset:
    """Load one split, or an expression like `train[:80%]`, as `load_dataset` does, but with the builder of the run."""
    builder = builder_of(task)
    builder.download_and_prepare()
    return builder.as_dataset(split=source)


def _version(task: Task) -> str | None:
    files = task.data_files if task.dataset in LOCAL_FILES and task.data_files is not None else {}
    return version_of([path for paths in files.values() for path in ([paths] if isinstance(paths, str) else paths)])
