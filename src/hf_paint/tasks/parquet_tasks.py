"""Tasks whose rows hf_paint itself writes to parquet files."""

from collections.abc import Callable, Mapping
from pathlib import Path

from datasets import Dataset

from hf_paint.files import save_atomically
from hf_paint.tasks.task import Task


def write_parquet_task(
    files: Mapping[str, Path], make_rows: Callable[[str], Dataset], keys: Mapping[str, object]
) -> Task:
    """Write each split to its parquet file, unless the file exists, and return the task that reads the files.

    Args:
        files: Split -> parquet file.
        make_rows: Called as `make_rows(split)`; returns the rows of that split.
        keys: All other keys of the task definition.
    """
    for split, path in files.items():
        if not path.exists():
            save_atomically(path, make_rows(split).to_parquet)
    data_files = {split: str(path) for split, path in files.items()}
    return Task.from_dict({"dataset": "parquet", "data_files": data_files, **keys})
