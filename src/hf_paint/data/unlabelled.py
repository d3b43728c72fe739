"""Splits without labels: what stands in their label column is not read, and the column may be missing."""

from dataclasses import replace

from datasets import Dataset, Value

from hf_paint.data.split_names import split_names
from hf_paint.tasks.task import Task


def with_its_files(task: Task, source: str) -> Task:
    """Return a task with the files of its unlabelled splits or of the others: those among which `source` is.

    `datasets` loads all files of a data set together and wants the same columns in each of them.
    """
    if not task.unlabelled or task.data_files is None:
        return task
    files, is_unlabelled = task.data_files, source in task.unlabelled_sources
    sources = [each for each in task.splits.named() if (each in task.unlabelled_sources) == is_unlabelled]
    named = {name for each in (*sources, source) for name in split_names(each, files)}
    return replace(task, data_files={name: own for name, own in files.items() if name in named})


def without_labels(task: Task, rows: Dataset) -> Dataset:
    """Return rows whose label column is empty, whether or not they have one."""
    column = task.label_columns()["label_column"]
    kept = rows.remove_columns(column) if column in rows.column_names else rows
    return kept.add_column(column, [None] * len(rows), feature=Value("string"))
