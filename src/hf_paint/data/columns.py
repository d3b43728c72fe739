"""Find the image column and the label column of a data set that a task does not name, by their features."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from datasets import ClassLabel, Dataset, Image, IterableDataset, Value

from hf_paint.data.column_types import LISTS, TEXTS, describe_type, is_image
from hf_paint.data.folder_files import PICTURES
from hf_paint.errors import InputError
from hf_paint.files import exists
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.data_files import MEMORY
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


IMAGE, LABEL = "image", "label"
"""Columns that a task reads if it names no others."""
LABEL_NAMES = ("labels", "class", "classes", "class_name", "class_label", "category", "target", "cls")
"""Other names of a label column."""


def name_columns(task: Task, rows: Dataset | IterableDataset) -> Task:
    """Return a task that names the columns of its rows, where it has default names and there are no such columns.

    The image column is the only column of images: of type `Image`, or else of encoded bytes or pixels, or else of
    paths to pictures. The label column is the only `ClassLabel`, or else the only column called `labels`, `class`,
    `category`, `target` or the like, or else the only text column with at most half as many texts as rows. No image is
    read.

    Raises:
        InputError: If there is no such column, or there are several.
    """
    features = rows.features
    if features is None:
        return task
    if task.image_column == IMAGE and IMAGE not in features:
        task = replace(task, image_column=_find(task, rows, "image_column", IMAGE_RULES, taken=()))
    if isinstance(task, LabelledTask) and task.label_column == LABEL and LABEL not in features:
        words = [task.text_column] if isinstance(task, TypographicTask) else []
        taken = [task.image_column, task.group_column, *words]
        task = replace(task, label_column=_find(task, rows, "label_column", LABEL_RULES, taken=taken))
    return task


Rule = Callable[[Dataset | IterableDataset, str], bool]


def _find(
    task: Task, rows: Dataset | IterableDataset, key: str, rules: Sequence[Rule], *, taken: Sequence[str | None]
) -> str:
    columns: list[str] = [column for column in rows.features if column not in taken]
    found = next((own for rule in rules if (own := [column for column in columns if rule(rows, column)])), [])
    if len(found) == 1:
        return found[0]
    default, holds = (IMAGE, "the images") if key == "image_column" else (LABEL, "the labels")
    several = f"and several that may hold {holds}: {', '.join(found)}" if found else f"and none that holds {holds}"
    if key == "image_column" and not found:
        several += _say_what_is_absent(rows, columns)
    types = ", ".join(f"{column} ({describe_type(feature)})" for column, feature in rows.features.items())
    raise InputError(
        f"{place_of(task)} has no column '{default}' {several}; its columns are {types}. Set `{key}` of task "
        f"'{task.name}', as in {{dataset: ..., {key}: {(found or ['...'])[0]}}}."
    )


def _say_what_is_absent(rows: Dataset | IterableDataset, columns: Sequence[str]) -> str:
    """Name the first column whose paths to pictures lead nowhere; an empty string if there is none."""
    for column in columns:
        first = str(first_row(rows, [column]).get(column)) if is_text(rows.features[column]) else ""
        if Path(first).suffix.lower() in PICTURES:
            return f" ('{column}' names pictures, but there is no '{first}'; paths are relative to the table)"
    return ""


def place_of(task: Task) -> str:
    """Return where the data of a task are, as the subject of a sentence: its folder or first file, or its data set.

    All corrupted copies of a task have the same place, so what is said of it is said once.
    """
    if task.dataset == MEMORY:
        return "The data set in memory"
    files = next(iter((task.data_files or {}).values()), None)
    return f"'{task.data_dir or (files[0] if isinstance(files, list) and files else files or task.dataset)}'"


def _is_image_column(rows: Dataset | IterableDataset, column: str) -> bool:
    return isinstance(rows.features[column], Image)


def _is_stored_image(rows: Dataset | IterableDataset, column: str) -> bool:
    return is_image(rows.features[column]) and not is_text(rows.features[column])


def _is_path_column(rows: Dataset | IterableDataset, column: str) -> bool:
    if not is_text(rows.features[column]):
        return False
    first = str(first_row(rows, [column]).get(column))
    return Path(first).suffix.lower() in PICTURES and ("://" in first or exists(Path(first)))


def _is_class_label(rows: Dataset | IterableDataset, column: str) -> bool:
    feature = rows.features[column]
    return isinstance(feature.feature if isinstance(feature, LISTS) else feature, ClassLabel)


def _is_called_label(_: Dataset | IterableDataset, column: str) -> bool:
    return column.lower() in LABEL_NAMES


def _has_few_texts(rows: Dataset | IterableDataset, column: str) -> bool:
    if isinstance(rows, IterableDataset) or column.startswith("__"):  # `webdataset` adds `__key__` and `__url__`
        return False
    feature = rows.features[column]
    if isinstance(feature, LISTS):
        return is_text(feature.feature)
    return is_text(feature) and 2 <= len(rows.unique(column)) <= len(rows) / 2


def first_row(rows: Dataset | IterableDataset, columns: Sequence[str]) -> Mapping[str, object]:
    """Return the first row with these columns only, or an empty mapping if there is no row."""
    own: Iterable[Mapping[str, object]] = rows.select_columns(list(columns)).take(1)
    return next(iter(own), {})


def is_text(feature: object) -> bool:
    """Return whether a column holds texts."""
    return isinstance(feature, Value) and feature.dtype in TEXTS


IMAGE_RULES = (_is_image_column, _is_stored_image, _is_path_column)
LABEL_RULES = (_is_class_label, _is_called_label, _has_few_texts)
"""Which columns come into question: those that the first rule finds, or else the next."""
