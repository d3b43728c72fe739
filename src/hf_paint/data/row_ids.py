"""Number the rows of a data set, so that splits can be compared by their rows instead of their names."""

import hashlib
import os
from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from glob import glob
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_paint.data.split_names import read_parts
from hf_paint.tasks.task import Task


def number_rows(task: Task, rows: Dataset, source: str) -> NDArray[np.int64]:
    """Return the number of each row within the whole data set, shape (num_rows,).

    The splits are numbered one after another. Splits of `data_files` that read the same files, under whatever names,
    have the same numbers.

    Args:
        task: The task.
        rows: Rows that `datasets` has loaded.
        source: Name of a split, or an expression like `train[:80%]`, from which the rows were loaded.
    """
    lengths = {name: int(split.num_examples) for name, split in sorted((rows.info.splits or {}).items())}
    starts = dict(zip(lengths, np.cumsum([0, *lengths.values()]).tolist(), strict=False))
    files = files_of(task)
    first = {own: name for name, own in reversed(files.items())}
    starts |= {name: starts[first[own]] for name, own in files.items() if name in starts and first[own] in starts}
    parts = read_parts(source, lengths)
    return np.concatenate([np.arange(starts[name] + start, starts[name] + stop) for name, start, stop in parts])


def files_of(task: Task) -> dict[str, tuple[str, ...]]:
    """Return split -> its files, for a task with `data_files`; local files are identified by their contents."""
    patterns = {name: [paths] if isinstance(paths, str) else paths for name, paths in (task.data_files or {}).items()}
    paths = {name: [path for pattern in own for path in _expand(pattern)] for name, own in patterns.items()}
    sizes = Counter(os.path.getsize(path) for path in {*chain(*paths.values())} if os.path.isfile(path))
    return {name: tuple(_identify(path, sizes) for path in own) for name, own in paths.items()}


def _expand(pattern: str) -> list[str]:
    """Return the real paths of the files that match a pattern; an address is returned as it is."""
    found = [pattern] if os.path.isfile(pattern) else sorted(filter(os.path.isfile, glob(pattern, recursive=True)))
    return [os.path.realpath(path) for path in found] or [pattern]


def _identify(path: str, sizes: Mapping[int, int]) -> str:
    """Return a digest of the bytes of a file if another file has the same size; otherwise, its path."""
    if not os.path.isfile(path) or sizes[os.path.getsize(path)] < 2:
        return path
    state = os.stat(path)
    return _digest(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: str, _size: int, _modified: int) -> str:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
