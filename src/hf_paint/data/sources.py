"""Load the rows of a task from the Hub or from local files, optionally as a stream."""

from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import numpy as np
from datasets import Dataset, IterableDataset, load_dataset, load_dataset_builder
from numpy.typing import NDArray

from hf_paint.data.class_files import FORMATS, ClassFiles, find_class_files
from hf_paint.data.csv_labels import infer_labels, label_converters, separator_of
from hf_paint.data.folders import folder_splits, is_folder, read_folder
from hf_paint.data.memory_rows import memory_splits, read_memory
from hf_paint.data.picture_paths import resolve_pictures
from hf_paint.data.row_ids import number_rows, version_of
from hf_paint.data.split_names import split_names, suggest_splits
from hf_paint.data.typographic_folder import read_typographic_folder
from hf_paint.data.unlabelled import with_its_files, without_labels
from hf_paint.errors import InputError, did_you_mean, one_line, warn_once
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.data_files import LOCAL_FILES, MEMORY
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


class SourceArguments(TypedDict):
    """Arguments of `datasets.load_dataset` that identify a data set."""

    path: str
    name: str | None
    data_files: dict[str, str | list[str]] | None
    data_dir: str | None
    revision: str | None


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a data set.

    Attributes:
        table: The rows, or a stream of them.
        ids: shape (num_rows,), numbers that are equal in two splits of a data set only if the rows are the same; None
            for a stream.
    """

    table: Dataset | IterableDataset
    ids: NDArray[np.int64] | None = None

    def select(self, indices: NDArray[np.int64]) -> "Rows":
        """Return the rows at these indices."""
        return Rows(self.table.select(indices), None if self.ids is None else self.ids[indices])


def load_rows(task: Task, source: str) -> Rows:
    """Load one split of a task's data set, or an expression like `train[:80%]`.

    Raises:
        InputError: If the split cannot be loaded or is empty.
    """
    own = with_its_files(task, source)
    rows = _load(own, source)
    if source not in task.unlabelled_sources:
        return rows
    ids = rows.ids if rows.ids is None or own is task else -1 - rows.ids  # numbered apart from the labelled rows
    return Rows(without_labels(task, rows.table), ids)


def _load(task: Task, source: str) -> Rows:
    if task.dataset == MEMORY:
        table, lengths = read_memory(task, source)
        return Rows(table, number_rows(lengths, source, MEMORY, {}))
    if task.data_files is not None and not set(split_names(source, task.data_files)) <= set(task.data_files):
        raise InputError(
            f"`data_files` of task '{task.name}' lists no files for the split '{source}', only for "
            f"{', '.join(task.data_files)}. Add files for it, or "
            f"{suggest_splits(task.data_files, drawn=not task.streaming)}."
        )
    if isinstance(task, TypographicTask) and task.dataset == "typographic_folder":
        rows = read_typographic_folder(task, source)
        return Rows(rows, np.arange(len(rows)))
    if is_folder(task):
        rows, ids = read_folder(task, source)
        return Rows(rows.to_iterable_dataset()) if task.streaming else Rows(rows, ids)
    return _load_rows(task, source)


def _load_rows(task: Task, source: str) -> Rows:
    """Load one split with `datasets`."""
    try:
        class_files = _class_files(task)
        if class_files is not None:
            return _load_class_files(task, source, class_files)
        options: dict[str, object] = {"converters": label_converters(task)} if _is_csv(task) else {}
        options |= {"sep": separator} if (separator := _separator(task)) else {}
        rows = load_dataset(**_source_arguments(task), **options, split=source, streaming=task.streaming)
        if isinstance(rows, IterableDataset):
            rows = rows._resolve_features()  # CSV rows have no column types until the first of them are read
            return Rows(resolve_pictures(task, rows, _files_of(task, source)))
    except InputError:
        raise
    except Exception as error:  # datasets raises a dozen types of errors if a data set cannot be loaded
        message = one_line(error.__cause__ or error if "while generating" in str(error) else error).rstrip(".")
        files = (task.data_files or {}).get(source)
        place = f" from {files}" if files and str(files) not in message else ""
        problem = "is empty" if "corresponds to no data" in message else f"cannot be loaded{place}: {message}"
        raise InputError(f"The split '{source}' of '{task.dataset}' (task '{task.name}') {problem}.") from error
    lengths = {name: int(split.num_examples) for name, split in (rows.info.splits or {}).items()}
    ids = number_rows(lengths, source, task.dataset, _find_files(task))
    rows = infer_labels(task, rows) if _is_csv(task) else rows
    return Rows(resolve_pictures(task, rows, _files_of(task, source)), ids)


def list_splits(task: Task) -> list[str]:
    """Return the splits of a task's data set.

    Raises:
        InputError: If the data set cannot be read.
    """
    if task.dataset == MEMORY:
        return list(memory_splits(task))
    if is_folder(task):
        return folder_splits(task)
    if task.data_files is not None:
        return list(task.data_files)
    try:
        builder = load_dataset_builder(**_source_arguments(task))
    except Exception as error:  # as in `_load_rows`
        raise InputError(f"'{task.dataset}' (task '{task.name}') cannot be opened: {one_line(error)}.") from error
    return [str(name) for name in builder.info.splits or builder.config.data_files or ()]


def _files_of(task: Task, source: str) -> list[str]:
    """Return the local files that a split or an expression is read from, as far as the task lists them."""
    files = task.data_files if task.dataset in LOCAL_FILES and task.data_files else {}
    own = [files[name] for name in split_names(source, files) if name in files]
    return [path for paths in own for path in ([paths] if isinstance(paths, str) else paths)]


def stream_length(task: Task, source: str) -> int:
    """Return the number of rows in a streamed split.

    Raises:
        InputError: If the data set does not report the number of rows.
    """
    if is_folder(task):
        return len(read_folder(task, source).table)
    splits = load_dataset_builder(**_source_arguments(task)).info.splits or {}
    if source not in splits or not splits[source].num_examples:
        raise InputError(
            f"'{task.dataset}' does not report the number of rows in '{source}', so task '{task.name}' cannot take an "
            "`auto` validation split from the stream. Set `validation` to a split of the data set, or to null."
        )
    return int(splits[source].num_examples)


def stream_fingerprint(task: Task, name: str) -> str:
    """Return a fingerprint of a stream, which covers the files, their versions and the selection of rows."""
    splits = [task.splits.train, task.splits.validation, task.splits.test]
    if is_folder(task):
        files = [read_folder(task, source).table._fingerprint for source in task.splits.named()]
        return fingerprint_values(files, name, splits)
    class_files = _class_files(task)
    cache_dir = load_dataset_builder(**_source_arguments(task)).cache_dir
    return fingerprint_values(cache_dir, name, splits, *([class_files.fingerprint] if class_files else []))


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


def _is_csv(task: Task) -> bool:
    """Return whether labels can be read as text first; those of a stream are never known as a whole."""
    return task.dataset == "csv" and not task.streaming


def _separator(task: Task) -> str | None:
    files = [path for source in task.data_files or {} for path in _files_of(task, source)]
    return separator_of(files) if task.dataset == "csv" else None


def _class_files(task: Task) -> ClassFiles | None:
    """Return the files of a local data set if they name their classes differently."""
    is_local = task.dataset in FORMATS.values() or Path(task.dataset).is_dir()
    return find_class_files(task, load_dataset_builder(**_source_arguments(task))) if is_local else None


def _load_class_files(task: Task, source: str, class_files: ClassFiles) -> Rows:
    """Load one split of files that name their classes differently."""
    rows = class_files.load(task, source)
    if task.streaming:
        return Rows(rows)
    return Rows(rows, number_rows(class_files.lengths(), source, class_files.format, class_files.files))


def _find_files(task: Task) -> dict[str, list[str]]:
    """Return split -> its files, empty for a data set on the Hub, and warn of local files that are in no split."""
    if task.data_files is not None:
        return {split: [paths] if isinstance(paths, str) else paths for split, paths in task.data_files.items()}
    folder = Path("" if task.dataset in LOCAL_FILES else task.dataset, task.data_dir or "")
    if not folder.name or not folder.is_dir():
        return {}
    config = load_dataset_builder(**_source_arguments(task)).config
    files = {str(split): list(map(str, paths)) for split, paths in (config.data_files or {}).items()}
    read = {Path(path).resolve() for paths in files.values() for path in paths}
    suffixes = {path.suffix for path in read}
    unread = [path for path in sorted(folder.rglob("*")) if path.suffix in suffixes and path.resolve() not in read]
    if unread:
        warn_once(
            f"Task '{task.name}' reads only files in {folder} that are named like splits ({', '.join(files)}). Not "
            f"read: {len(unread)}, for instance '{unread[0].name}'. List files as `data_files` to read them all."
        )
    return files


def _version(task: Task) -> str | None:
    files = task.data_files if task.dataset in LOCAL_FILES and task.data_files is not None else {}
    return version_of([path for paths in files.values() for path in ([paths] if isinstance(paths, str) else paths)])


def _source_arguments(task: Task) -> SourceArguments:
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
