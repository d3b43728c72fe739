"""Read the files `metadata.csv`, `metadata.jsonl` and `metadata.parquet` in a folder of pictures."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
from datasets import Dataset
from pyarrow import json, parquet

from hf_paint.data.columns import LABEL
from hf_paint.data.csv_labels import infer_labels, label_converters, separator_of
from hf_paint.data.folder_files import File, describe_file
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.names import short_form
from hf_paint.tasks.task import Task


class Metadata(NamedTuple):
    """Rows that describe pictures.

    Attributes:
        pictures: Picture of each row.
        paths: Path of the metadata file of each row.
        table: All columns but the one with the file names.
    """

    pictures: list[File]
    paths: list[str]
    table: pa.Table

    @property
    def rows(self) -> list[tuple[File, int]]:
        """Picture and number of each row."""
        return [(picture, row) for row, picture in enumerate(self.pictures)]


def read_metadata(task: Task, files: Sequence[File], pictures: Sequence[File]) -> Metadata:
    """Read metadata files; the column `file_name` holds paths relative to the folder of each file.

    Raises:
        InputError: If a file cannot be read, has no column of file names, or names a picture that does not exist.
    """
    known = {os.path.normpath(picture.path): picture for picture in pictures}
    read = [_read_file(task, file, known) for file in {file.path: file for file in files}.values()]
    try:
        table = pa.concat_tables([part.table for part in read], promote_options="default")
    except pa.ArrowException as error:
        raise InputError(
            f"The metadata files of task '{task.name}' have columns of different types: {one_line(error)}"
        ) from error
    if all(file.path.endswith(".csv") for file in files):
        table = infer_labels(task, Dataset(table)).with_format("arrow")[:]
    metadata = Metadata(
        [picture for part in read for picture in part.pictures], [path for part in read for path in part.paths], table
    )
    _check_labels(task, metadata)
    return metadata


def _read_file(task: Task, file: File, known: dict[str, File]) -> Metadata:
    try:
        table = _read_table(task, file.path)
    except (OSError, ValueError, pa.ArrowException) as error:  # pandas raises kinds of ValueError
        raise InputError(f"{file.path} of task '{task.name}' cannot be read: {one_line(error)}") from error
    key = "file_name" if "file_name" in table.column_names else f"{task.image_column}_file_name"
    if key not in table.column_names:
        raise InputError(
            f"{file.path} of task '{task.name}' has no column 'file_name'; its columns are "
            f"{', '.join(table.column_names)}. Rename the column that holds the file names."
        )
    names = [str(name) for name in table[key].to_pylist()]
    found = {name: _find(file, name, known) for name in dict.fromkeys(names)}
    missing = [name for name, picture in found.items() if picture is None]
    if missing:
        raise InputError(
            f"{file.path} of task '{task.name}' names pictures that are not below its folder ({len(missing)} of "
            f"{len(found)}), for instance '{missing[0]}'. Correct the column '{key}', or add the pictures."
        )
    pictures = [picture for name in names if (picture := found[name]) is not None]
    return Metadata(pictures, [file.path] * len(pictures), table.drop_columns([key]))


def _check_labels(task: Task, metadata: Metadata) -> None:
    """Check that there are labels and, if folders are called like labels, that the two agree."""
    column = task.label_columns().get("label_column")
    if column is None:
        return
    columns = metadata.table.column_names
    if column not in columns and column == LABEL:
        return  # another column is found by its values
    if column not in columns:
        raise InputError(
            f"{metadata.paths[0]} of task '{task.name}' has no column '{column}'; its columns are "
            f"{', '.join(columns)}.{did_you_mean(column, columns)} Correct `label_column`, or remove the file, so "
            "that the folders are read as classes."
        )
    if isinstance(task, MultiLabelTask):
        return  # a folder cannot be called like several labels
    labels = [short_form(str(label)) for label in metadata.table[column].to_pylist()]
    folders = [short_form(picture.folders[-1]) if picture.folders else "" for picture in metadata.pictures]
    known = set(labels)
    others = [row for row, folder in enumerate(folders) if folder in known and folder and folder != labels[row]]
    if others:
        picture, path = metadata.pictures[others[0]], metadata.paths[others[0]]
        raise InputError(
            f"{path} of task '{task.name}' contradicts the class folders in {len(others)} of {len(labels)} rows: it "
            f"labels '{picture.place}' as '{metadata.table[column][others[0]]}'. Correct it, or remove it, so that "
            "the folders are read as classes."
        )


def _read_table(task: Task, path: str) -> pa.Table:
    if path.endswith(".csv"):
        frame = pd.read_csv(path, sep=separator_of([path]) or ",", converters=label_converters(task))
        return pa.Table.from_pandas(frame, preserve_index=False)
    return json.read_json(path) if path.endswith(".jsonl") else parquet.read_table(path)


def _find(file: File, name: str, known: dict[str, File]) -> File | None:
    """Return the picture with this name in the folder of a metadata file or below it, or None."""
    place = Path(os.path.normpath(name))
    path = os.path.normpath(Path(file.path).parent / place)
    if path in known:
        return known[path]
    if place.is_absolute() or ".." in place.parts or not Path(path).is_file():
        return None
    return describe_file(Path(path), (*file.folders, *place.parent.parts))  # a picture without an extension, say
