"""Photos with words in them: a folder of files such as `label=dog_text=cat.png` (PAINT, Section 7)."""

import logging
from pathlib import Path
from typing import Any
from unicodedata import normalize

from datasets import Dataset, Features, Image, IterableDataset, Value, load_dataset, load_dataset_builder
from PIL import Image as PILImage

from hf_paint.data.choices import label_columns
from hf_paint.errors import InputError, did_you_mean, one_line
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.task import Task


SPLIT = "test"
"""The name of the one split that a folder has."""
START, MIDDLE = "label=", "_text="
logger = logging.getLogger(__name__)


def read_typographic_folder(task: Task, source: str) -> Dataset:
    """Return the photos in the folder `data_dir` of a task, by name: columns image, label and text.

    Sub-folders and hidden files are passed over; of any other file that is no image, or whose name does not say a
    label and a text, the task's `bad_rows` decides.

    Raises:
        InputError: If there is no such folder or split, the folder holds no photo, or a file is refused.
    """
    if source != SPLIT:
        raise InputError(
            f"A typographic folder is one split, '{SPLIT}'; task '{task.name}' asks for '{source}'. Set "
            f"`splits: {{train: null, validation: null, test: {SPLIT}}}`."
        )
    folder = Path(task.data_dir or "").expanduser()
    if task.data_dir is None or not folder.is_dir():
        raise InputError(f"`data_dir` of task '{task.name}' must be a folder of photos, got {task.data_dir!r}.")
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    names = {path: parse_name(path.name) for path in files}
    bad = [path.name for path, name in names.items() if name is None]
    if bad:
        _report(task, folder, bad)
    photos = [(str(path), *name) for path, name in names.items() if name is not None]
    if not photos:
        raise InputError(f"The folder {folder} of task '{task.name}' holds no file such as label=dog_text=cat.png.")
    images, labels, texts = (list(column) for column in zip(*photos, strict=True))
    features = Features({"image": Image(), "label": Value("string"), "text": Value("string")})
    rows = Dataset.from_dict({"image": images, "label": labels, "text": texts}, features=features)
    states = [(Path(path).name, Path(path).stat().st_size, Path(path).stat().st_mtime_ns) for path in images]
    return Dataset(rows.data, fingerprint=fingerprint_values(states))  # that of the paths alone would miss a new photo


def parse_name(name: str) -> tuple[str, str] | None:
    """Return the label and the text that a file name says, or None if it does not say both, or not unambiguously.

    Both may hold `_`, `=` and spaces; only `_text=` may not come twice.

    Example:
        >>> parse_name("label=st. bernard_text=a=b_c.png"), parse_name("dog.png")
        (('st. bernard', 'a=b_c'), None)
    """
    path = Path(normalize("NFC", name))  # some systems take accents apart
    is_image = path.suffix.lower() in PILImage.registered_extensions()
    if not is_image or not path.stem.startswith(START) or path.stem.count(MIDDLE) != 1:
        return None
    label, text = (part.strip() for part in path.stem.removeprefix(START).split(MIDDLE))
    return (label, text) if label and text else None


def _report(task: Task, folder: Path, bad: list[str]) -> None:
    names = ", ".join(f"'{name}'" for name in bad[:5]) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    message = f"{len(bad)} files of {folder} (task '{task.name}') are not named like label=dog_text=cat.png: {names}."
    if task.bad_rows == "refuse":
        raise InputError(f"{message} Rename them, or set `bad_rows: skip`.")
    logger.warning("%s They are skipped.", message)


def _source_arguments(task: Task) -> dict[str, Any]:
    data_files = dict(task.data_files) if task.data_files else None
    return {
        "path": task.dataset,
        "name": task.config,
        "data_files": data_files,
        "data_dir": task.data_dir,
        "revision": task.revision,
    }


def load_rows(task: Task, source: str) -> Dataset | IterableDataset:
    """Load one split of the data set of a task.

    Raises:
        InputError: If it cannot be loaded, or is empty.
    """
    if task.data_files is not None and source not in task.data_files:
        raise InputError(
            f"Task '{task.name}' has no data files for the split '{source}'; it lists {', '.join(task.data_files)}."
        )
    if task.dataset == "typographic_folder":
        return read_typographic_folder(task, source)
    try:
        return load_dataset(**_source_arguments(task), split=source, streaming=task.streaming)
    except Exception as error:  # datasets raises a dozen types for one thing: it cannot be loaded
        message = one_line(error)
        problem = "is empty" if "corresponds to no data" in message else f"cannot be loaded: {message}"
        raise InputError(f"The split '{source}' of '{task.dataset}' (task '{task.name}') {problem}.") from error


def stream_length(task: Task, source: str) -> int:
    """Return how many rows a split has that is read as a stream.

    Raises:
        InputError: If the data set does not say.
    """
    splits = load_dataset_builder(**_source_arguments(task)).info.splits or {}
    if source not in splits or not splits[source].num_examples:
        raise InputError(
            f"'{task.dataset}' does not say how many rows '{source}' has, so task '{task.name}' cannot draw an `auto` "
            "validation split from the stream. Name a validation split, or set `validation: null`."
        )
    return int(splits[source].num_examples)


def stream_fingerprint(task: Task, name: str) -> str:
    """Fingerprint of a stream: the files behind it, with their versions, and which of its rows are read."""
    builder = load_dataset_builder(**_source_arguments(task))
    splits = [task.splits.train, task.splits.validation, task.splits.test]
    return fingerprint_values(builder.cache_dir, name, splits)


def check_columns(task: Task, rows: Dataset | IterableDataset) -> None:
    """Refuse a task that names a column which is not there."""
    columns = rows.column_names
    if columns is None:
        return
    wanted = {"image_column": task.image_column, "group_column": task.group_column} | label_columns(task)
    wanted |= {f"where: {column}": column for column in task.where or {}}
    for key, column in wanted.items():
        if column is not None and column not in columns:
            raise InputError(
                f"Column '{column}' is not in '{task.dataset}' (columns: {', '.join(columns)})."
                f"{did_you_mean(column, columns)} Set `{key}` of task '{task.name}'."
            )
