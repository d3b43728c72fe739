"""Read a folder of pictures as a data set: splits and classes from the names of folders, or from metadata files.

`datasets` finds splits and classes by searching file names for words. It takes a class folder called `freight train`
for a split and a split folder for a class, and it drops whatever does not match.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Image
from datasets.fingerprint import Hasher
from datasets.table import table_cast
from numpy.typing import NDArray

from hf_paint.data.folder_classes import class_of, find_classes
from hf_paint.data.folder_files import File, Listing, count_common, list_files, list_folder
from hf_paint.data.folder_metadata import Metadata, read_metadata
from hf_paint.data.folder_report import folders_without_pictures, report
from hf_paint.data.folder_splits import add_usual_names, find_splits, listed_classes, show
from hf_paint.data.labels import ClassIds, name_ids
from hf_paint.data.read_once import ReadOnce
from hf_paint.data.split_names import read_parts, suggest_splits
from hf_paint.errors import InputError
from hf_paint.files import expand
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task


DATA_FILES = (".arrow", ".csv", ".json", ".jsonl", ".parquet", ".py", ".tar")
"""Extensions of files that make a local folder a data set of another format, unless pictures outnumber them."""
Row = tuple[File, int]
"""A picture, and its class, or its row in the metadata."""


class FolderRows(NamedTuple):
    """Rows of a folder.

    Attributes:
        table: Data set with the image column and the labels.
        ids: shape (num_rows,), numbers that are equal in two splits only if the rows are the same.
    """

    table: Dataset
    ids: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """What a folder contains.

    Attributes:
        listing: All files.
        rows: Split -> its rows.
        class_names: Class names if the folders are classes.
        metadata: Metadata if there is any; then, the folders are no classes.
    """

    listing: Listing
    rows: Mapping[str, Sequence[Row]]
    class_names: Sequence[str] = ()
    metadata: Metadata | None = None


_contents: ReadOnce[Task, Contents] = ReadOnce()


def is_folder(task: Task) -> bool:
    """Return whether the rows of a task are pictures in local folders or zip files."""
    if task.dataset == "imagefolder":
        paths = [path for paths in _patterns(task).values() for path in paths] or [task.data_dir or "://"]
        return not any("://" in path for path in paths)
    if not Path(task.dataset).is_dir() or task.data_files is not None:
        return False
    listing = list_folder(_folder(task))
    return len(listing.pictures) > sum(name.lower().endswith(DATA_FILES) for name in listing.others)


def read_folder(task: Task, source: str) -> FolderRows:
    """Read a split of a folder, or an expression like `train[:80%]`, and log what the folder contains.

    Raises:
        InputError: If the splits or classes are ambiguous, or the folder does not have the split.
    """
    contents = _read_contents(task)
    report(task, _place(task), contents.listing, contents.rows, contents.class_names)
    rows = _choose(task, contents.rows, source)
    if contents.metadata is not None:
        indices = np.array([index for _, index in rows], dtype=np.int64)
        return FolderRows(_build(task, rows, contents.metadata.table.take(indices)), indices)
    if any(label < 0 for _, label in rows):
        raise InputError(
            f"The pictures in the split '{source}' of task '{task.name}' are in no class folders, so they have no "
            "labels. Add class folders, or set the split to null in `splits`."
        )
    table = pa.table({"label": [label for _, label in rows]})
    numbers = {
        inode: number for number, inode in enumerate(sorted({file.inode for file in contents.listing.pictures}))
    }
    ids = np.array([numbers[picture.inode] for picture, _ in rows], dtype=np.int64)
    return FolderRows(_build(task, rows, table, contents.class_names), ids)


def bare_folders(task: Task) -> list[str]:
    """Return the folders of a task that contain no pictures, so that they are no classes; none if it has metadata."""
    if not is_folder(task) or not (names := _read_contents(task).class_names):
        return []
    return [f for f in folders_without_pictures(_read_contents(task).listing) if f.rpartition("/")[2] not in names]


def folder_splits(task: Task) -> list[str]:
    """Return the splits of a folder, without splits whose pictures are in no class folders.

    Raises:
        InputError: If the splits or classes are ambiguous.
    """
    rows = _read_contents(task).rows
    return [split for split, own in rows.items() if all(label >= 0 for _, label in own)]


def _read_contents(task: Task) -> Contents:
    return _contents.get(task.name, task, partial(_find_contents, task))


def _find_contents(task: Task) -> Contents:
    listings = _list(task)
    listing = sum(listings.values(), Listing())
    if not listing.pictures and not listing.metadata:
        others = f", only {show(listing.others)}" if listing.others else ""
        raise InputError(f"{_place(task)} of task '{task.name}' contains no pictures{others}.")
    _check_names(listing.pictures)
    if listing.metadata:
        metadata = read_metadata(task, listing.metadata, listing.pictures)
        return Contents(listing=listing, rows=_rows_of_metadata(task, listings, metadata), metadata=metadata)
    splits = _splits(task, listings)
    names = find_classes(task, splits, are_listed=task.data_files is not None)
    bare = {folder.rpartition("/")[2] for folder in folders_without_pictures(listing)}
    names = sorted({*names, *bare.intersection(listed_classes(task))})
    ids = name_ids(names)
    rows = {split: _labelled(pictures, ids) for split, pictures in splits.items()}
    return Contents(listing=listing, rows=rows, class_names=names)


def _check_names(pictures: Iterable[File]) -> None:
    """Refuse names that are not UTF-8, which no data set can hold."""
    for picture in pictures:
        try:
            picture.path.encode()
        except UnicodeEncodeError as error:
            raise InputError(f"The name of the file {os.fsencode(picture.path)!r} is not UTF-8. Rename it.") from error


def _labelled(pictures: Sequence[File], ids: ClassIds) -> list[Row]:
    """Return pictures and their class indices, -1 for one that is in no class folder."""
    labels: dict[tuple[str, ...], int] = {(): -1}
    for folders, picture in {picture.folders[-1:]: picture for picture in pictures if picture.folders}.items():
        index = ids.find(class_of(picture))
        labels[folders] = -1 if index is None else index
    return [(picture, labels[picture.folders[-1:]]) for picture in pictures]


def _list(task: Task) -> dict[str, Listing]:
    """Return split -> its files if `data_files` lists them; otherwise, all files of the folder under an empty name."""
    if task.data_files is not None:
        return {split: list_files(patterns) for split, patterns in _patterns(task).items()}
    folder = _folder(task)
    if not folder.is_dir() and not (folder.is_file() and folder.suffix.lower() == ".zip"):
        raise InputError(f"`data_dir` of task '{task.name}' must be a folder or a zip file, got '{folder}'.")
    return {"": list_folder(folder)}


def _splits(task: Task, listings: Mapping[str, Listing]) -> dict[str, Sequence[File]]:
    """Return split -> its pictures, with the names of the folders below the split."""
    if task.data_files is None:
        return find_splits(task, listings[""].pictures)
    folders = [picture.folders for listing in listings.values() for picture in listing.pictures]
    start = count_common(folders)
    return {
        split: [replace(picture, folders=picture.folders[start:]) for picture in listing.pictures]
        for split, listing in listings.items()
    }


def _rows_of_metadata(task: Task, listings: Mapping[str, Listing], metadata: Metadata) -> dict[str, Sequence[Row]]:
    """Return split -> its rows, in the order of the metadata."""
    if task.data_files is not None:  # the rows of a split are those of its metadata files
        paths = {split: {file.path for file in listing.metadata} for split, listing in listings.items()}
        return {
            split: [row for row, path in zip(metadata.rows, metadata.paths, strict=True) if path in paths[split]]
            for split in listings
        }
    pictures = {picture.path: picture for picture in (*listings[""].pictures, *metadata.pictures)}
    splits = find_splits(task, list(pictures.values()))
    split_of = {picture.path: split for split, own in splits.items() for picture in own}
    return {split: [row for row in metadata.rows if split_of[row[0].path] == split] for split in splits}


def _choose(task: Task, rows: Mapping[str, Sequence[Row]], source: str) -> list[Row]:
    named = add_usual_names(rows) if task.data_files is None else rows
    try:
        parts = read_parts(source, {name: len(own) for name, own in named.items()})
    except ValueError as error:
        raise InputError(
            f"{_place(task)} of task '{task.name}' has no split '{source}'; its splits are {', '.join(named)}. "
            f"To use them, {suggest_splits(named, drawn=not task.streaming)}."
        ) from error
    chosen = [row for name, start, stop in parts for row in named[name][start:stop]]
    if not chosen:
        raise InputError(f"The split '{source}' of '{task.dataset}' (task '{task.name}') is empty.")
    return chosen


def _build(task: Task, rows: Sequence[Row], columns: pa.Table, class_names: Sequence[str] = ()) -> Dataset:
    """Build a data set of an image column and other columns, with a fingerprint that covers the files."""
    pictures = [picture for picture, _ in rows]
    table = columns.add_column(0, "image", pa.array([picture.path for picture in pictures], pa.string()))
    features = Features.from_arrow_schema(table.schema) | {"image": Image()}
    if class_names:
        features["label"] = ClassLabel(names=list(class_names))
    start = str(_folder(task))
    states = [(picture.path.removeprefix(start), picture.size, picture.modified) for picture in pictures]
    fingerprint = fingerprint_values(states, list(class_names), Hasher.hash(columns.to_pydict()))
    return Dataset(table_cast(table, Features(features).arrow_schema), fingerprint=fingerprint)


def _folder(task: Task) -> Path:
    base = "" if task.dataset == "imagefolder" else task.dataset
    return expand(Path(base, task.data_dir or ""))


def _place(task: Task) -> str:
    return f"The folder {_folder(task)}" if task.data_files is None else "The `data_files`"


def _patterns(task: Task) -> dict[str, list[str]]:
    files = task.data_files or {}
    return {split: [paths] if isinstance(paths, str) else list(paths) for split, paths in files.items()}
