"""Labels in CSV files, which do not say whether `007`, `1.10` and `NA` are text, numbers or missing.

They are text if all of them are names of classes. Otherwise, they are what pandas takes them for; if that is text and
no classes are listed, each text is a class.
"""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
from datasets import Dataset, Features

from hf_paint.data.labels import name_ids
from hf_paint.files import expand
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.task import Task


MARK = "text:"
MOST_OF_A_LINE = 10_000
"""Number of characters of the first line of a CSV file that are looked at for its separator."""


def separator_of(files: Sequence[str | Path]) -> str | None:
    """Return what separates the columns of CSV files if it is no comma: a tab, or in many countries a semicolon.

    Only the names of files tell of tabs. Semicolons are in the first line of each file, without any comma.
    """
    if files and all(str(path).lower().endswith(".tsv") for path in files):
        return "\t"
    return ";" if files and all(_has_semicolons(expand(path)) for path in files) else None


def _has_semicolons(path: Path) -> bool:
    try:
        with path.open(encoding="utf-8") as file:
            head = file.readline(MOST_OF_A_LINE)
    except (OSError, ValueError):  # it is not on this machine, or no text
        return False
    return ";" in head and "," not in head


def label_converters(task: Task) -> dict[str, Callable[[str], str]]:
    """Return the `converters` of `pandas.read_csv` for the labels of a task, which `infer_labels` reads."""
    return dict.fromkeys(_label_columns(task), _mark)


def infer_labels(task: Task, rows: Dataset) -> Dataset:
    """Return rows with labels instead of their marked text."""
    for column in _label_columns(task):
        if column in rows.column_names:
            labels = _infer(task, [text.removeprefix(MARK) for text in rows[column][:]])
            feature = Features.from_arrow_schema(pa.schema([(column, labels.type)]))[column]
            rows = rows.add_column(f"{MARK}{column}", labels.to_pylist(), feature=feature)
            rows = rows.remove_columns(column).rename_column(f"{MARK}{column}", column)
    return rows


def _mark(text: str) -> str:
    """Return a text that pandas does not take for a missing value."""
    return MARK + text


def _label_columns(task: Task) -> list[str]:
    columns = task.label_columns().values() if isinstance(task, LabelledTask) else ()
    return [column for column in columns if column not in (task.where or {})]  # `where` compares the types


def _infer(task: Task, texts: Sequence[str]) -> pa.Array:
    """Return labels as text if all are names of classes, or else with the type that pandas infers.

    Texts that hold several labels stay as they are: `label_lists` takes them apart.
    """
    if isinstance(task, MultiLabelTask):
        return pa.array(texts, pa.string())
    listed = task.label_names or task.class_names if isinstance(task, LabelledTask) else None
    ids = name_ids(listed or ())
    if any(ids.find(text) is None for text in {*texts} - {""}):
        file = io.StringIO(pd.DataFrame({"label": texts}).to_csv(index=False))
        try:
            labels = pa.Table.from_pandas(pd.read_csv(file))["label"].combine_chunks()
            if listed is not None or labels.type not in (pa.string(), pa.large_string()):
                return labels  # otherwise the texts are the names of the classes, `NA` among them
        except OverflowError:  # integers of more than 64 bits
            pass
    return pa.array([text or None for text in texts], pa.string())
