"""Paths to pictures in the rows of a file: they are relative to that file."""

from collections.abc import Sequence
from pathlib import Path

from datasets import Dataset, IterableDataset

from hf_paint.data.columns import first_row, is_text
from hf_paint.data.folder_files import PICTURES
from hf_paint.errors import InputError
from hf_paint.files import exists
from hf_paint.tasks.task import Task


def resolve_pictures(task: Task, rows: Dataset | IterableDataset, files: Sequence[str]) -> Dataset | IterableDataset:
    """Return rows whose paths to pictures are absolute.

    Relative paths are looked up in the folders of the files, and then in the working directory. They are found in the
    image column, and in text columns that start with the name of a picture.

    Raises:
        InputError: If none of the pictures in the image column exists.
    """
    folders = list(dict.fromkeys(Path(file).parent.absolute() for file in files if "://" not in file))
    for column in _path_columns(task, rows) if folders else []:
        if isinstance(rows, Dataset):
            paths = rows[column][:]
            places = [_find(path, folders) for path in paths]
            if column == task.image_column:
                _refuse_if_none_exists(task, places)
            if places != paths:
                feature, order = rows.features[column], rows.column_names
                rows = rows.remove_columns(column).add_column(column, places, feature=feature).select_columns(order)
        else:
            rows = rows.map(_Finder(column, folders), input_columns=[column]).cast(rows.features)
    return rows


def _refuse_if_none_exists(task: Task, places: Sequence[str | None]) -> None:
    named = [place for place in places if place]
    if named and not any("://" in place or exists(Path(place)) for place in named):
        raise InputError(
            f"None of the {len(places)} pictures that '{task.image_column}' of task '{task.name}' names exists; the "
            f"first would be '{named[0]}'. Paths are relative to the folder of the table: correct them, or move it."
        )


def _path_columns(task: Task, rows: Dataset | IterableDataset) -> list[str]:
    texts = [column for column, feature in (rows.features or {}).items() if is_text(feature)]
    first = first_row(rows, texts) if texts else {}
    return [
        column
        for column in texts
        if column not in (task.where or {})
        and (column == task.image_column or Path(str(first.get(column))).suffix.lower() in PICTURES)
    ]


class _Finder:
    def __init__(self, column: str, folders: Sequence[Path]) -> None:
        self.column, self.folders = column, folders

    def __call__(self, path: str | None) -> dict[str, str | None]:
        return {self.column: _find(path, self.folders)}


def _find(path: str | None, folders: Sequence[Path]) -> str | None:
    """Return the place of a picture; a path at which there is nothing is returned in the folder of the file."""
    if not path or "://" in path or Path(path).is_absolute():
        return path
    places = [str(folder / path) for folder in folders]
    found = [place for place in (*places, path) if exists(Path(place))]
    return found[0] if found else places[0]
