"""Local data files that name their classes differently.

A parquet or arrow file stores the class names of its `ClassLabel` columns, but `datasets` reads the labels of every
file with the names of the first. Files with other names, or with the same names in another order, are therefore read
one by one, and their labels are translated by name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import (
    ClassLabel,
    Dataset,
    DatasetBuilder,
    Features,
    Image,
    IterableDataset,
    LargeList,
    List,
    concatenate_datasets,
    load_dataset,
)
from datasets.packaged_modules.arrow.arrow import Arrow
from datasets.packaged_modules.parquet.parquet import Parquet

from hf_paint.data.labels import name_ids, unite_names
from hf_paint.data.row_ids import count_rows, version_of
from hf_paint.data.split_names import read_parts, split_names
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task


Names = tuple[str, ...]
FORMATS = {Parquet: "parquet", Arrow: "arrow"}


@dataclass(frozen=True, slots=True)
class ClassColumn:
    """A column with class names.

    Attributes:
        names: Class names in all files of a task, in order of first occurrence.
        labels: File -> the index in `names` of each of its own class names.
    """

    names: Names
    labels: Mapping[str, Sequence[int | None]]


@dataclass(frozen=True, slots=True)
class ClassFiles:
    """Files of a task that have to be read with their own class names.

    Attributes:
        format: `parquet` or `arrow`.
        files: Split of the data set -> its files.
        columns: Columns whose class names differ.
    """

    format: str
    files: Mapping[str, Sequence[str]]
    columns: Mapping[str, ClassColumn]

    @property
    def fingerprint(self) -> str:
        """Fingerprint of what the labels of each file mean."""
        return fingerprint_values({column: [c.names, list(c.labels.values())] for column, c in self.columns.items()})

    def lengths(self) -> dict[str, int]:
        """Return the number of rows in each split."""
        return {split: sum(count_rows(self.format, file) for file in own) for split, own in self.files.items()}

    def load(self, task: Task, source: str) -> Dataset | IterableDataset:
        """Load one split, or an expression like `train[:80%]+test`, with the same class names for all files.

        Raises:
            ValueError: If `source` cannot be parsed, or names an unknown split.
        """
        if source in self.files:
            return self._load_split(task, source)
        parts = read_parts(source, self.lengths())
        return concatenate_datasets([_take(self._load_split(task, name), start, stop) for name, start, stop in parts])

    def _load_split(self, task: Task, split: str) -> Dataset | IterableDataset:
        parts = []
        for file in self.files[split]:
            version = version_of([file])
            rows = load_dataset(self.format, version, data_files={split: file}, split=split, streaming=task.streaming)
            if task.streaming and isinstance(rows.features.get(task.image_column), Image):
                rows = rows.cast_column(task.image_column, Image(decode=False))  # or they would be encoded again
            for column, classes in self.columns.items():
                rows = _translate(rows, column, classes.labels[file], classes.names)
            parts.append(rows.select_columns([column for column in _columns(task) if column in rows.features]))
        return concatenate_datasets(parts)


def find_class_files(task: Task, builder: DatasetBuilder) -> ClassFiles | None:
    """Return the files of a task if they name their classes differently, or None if they agree.

    Raises:
        InputError: If some files name their classes differently, and others do not name them.
    """
    files = builder.config.data_files or {}
    splits = {name for source in task.splits.named() for name in split_names(source, files)}
    used = list(dict.fromkeys(file for split in files if split in splits for file in files[split]))
    file_format = next((name for kind, name in FORMATS.items() if isinstance(builder, kind)), None)
    if file_format is None or not used or any("://" in file for file in used):
        return None
    features = {file: own for file in used if (own := _read_features(file))}
    default = builder.info.features or _read_features(next(file for split in files.values() for file in split))
    columns = {}
    for column in _columns(task):
        names = {file: _names(own, column) for file, own in features.items()}
        if any(own is not None and own != _names(default, column) for own in names.values()):
            columns[column] = _unite(task, column, names)
    return ClassFiles(file_format, files, columns) if columns else None


def _columns(task: Task) -> list[str]:
    """Return the columns that a task reads."""
    columns = [task.image_column, *task.label_columns().values(), task.group_column, *(task.where or {})]
    return list(dict.fromkeys(column for column in columns if column is not None))


def _read_features(file: str) -> Features:
    """Read the features of a file, without its rows; empty if it is damaged, which is reported when it is loaded."""
    try:
        return Features.from_arrow_schema(_read_schema(file))
    except (OSError, pa.ArrowInvalid):
        return Features()


def _read_schema(file: str) -> pa.Schema:
    with Path(file).open("rb") as stream:
        is_parquet = stream.read(4) == b"PAR1"
        stream.seek(0)
        if is_parquet:
            return pq.read_schema(stream)
        try:
            return pa.ipc.open_stream(stream).schema
        except pa.ArrowInvalid:
            return pa.ipc.open_file(stream).schema


def _names(features: Features, column: str) -> Names | None:
    feature = features.get(column)
    kind = feature.feature if isinstance(feature, (List, LargeList)) else feature
    return tuple(kind.names) if isinstance(kind, ClassLabel) else None


def _unite(task: Task, column: str, names: Mapping[str, Names | None]) -> ClassColumn:
    """Match the class names of all files with each other, as they are matched with those of a task."""
    unnamed = [file for file, own in names.items() if own is None]
    if unnamed:
        raise InputError(
            f"The column '{column}' of task '{task.name}' has class names in some files, but none in {unnamed[0]}. "
            "Write that file again with a ClassLabel column."
        )
    united = unite_names(own for own in names.values() if own is not None)
    ids = name_ids(united)
    labels = {file: [ids.find(name) for name in own or ()] for file, own in names.items()}
    return ClassColumn(tuple(united), labels)


def _take(rows: Dataset | IterableDataset, start: int, stop: int) -> Dataset | IterableDataset:
    """Return the rows from `start` up to but not including `stop`."""
    return rows.skip(start).take(stop - start)


def _translate(
    rows: Dataset | IterableDataset, column: str, labels: Sequence[int | None], names: Names
) -> Dataset | IterableDataset:
    """Return the rows with the labels of a column counted through `names`."""
    is_list = isinstance(rows.features[column], (List, LargeList))
    feature = List(ClassLabel(names=list(names))) if is_list else ClassLabel(names=list(names))
    new: dict[object, int | None] = dict(enumerate(labels))
    if isinstance(rows, IterableDataset):
        features = Features({**rows.features, column: feature})
        arguments = {"rows": rows, "column": column, "new": new}
        return IterableDataset.from_generator(_translated, features=features, gen_kwargs=arguments)
    values = [row[column] for row in _translated(rows.select_columns(column), column, new)]
    return rows.remove_columns(column).add_column(column, values, feature=feature)


def _translated(
    rows: Iterable[dict[str, object]], column: str, new: Mapping[object, int | None]
) -> Iterator[dict[str, object]]:
    """Yield the rows with their labels translated; a missing label (None or -1) stays missing."""
    for row in rows:
        label = row[column]
        yield row | {
            column: [new.get(one, one) for one in label] if isinstance(label, list) else new.get(label, label)
        }
