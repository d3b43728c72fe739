"""Number the rows of a data set, so that splits can be compared by their rows instead of their names."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path

import numpy as np
from datasets import load_dataset
from datasets.data_files import resolve_pattern
from numpy.typing import NDArray

from hf_paint.data.split_names import read_parts
from hf_paint.fingerprints import fingerprint_values


Block = tuple[tuple[str, ...], int]
"""Files that are read one after another, by their identities, and their number of rows."""


def number_rows(
    lengths: Mapping[str, int], source: str, dataset: str, files: Mapping[str, Sequence[str]]
) -> NDArray[np.int64]:
    """Return the number of each row within the whole data set, shape (num_rows,).

    Rows of local files have the same number if they are the same row of the same file, under whatever name.

    Args:
        lengths: Split of the data set -> its number of rows.
        source: Name of a split, or an expression like `train[:80%]`, from which the rows were loaded.
        dataset: Path or format of the data set.
        files: Split -> paths or patterns of its files, if they are known.
    """
    blocks = _find_blocks(lengths, dataset, files)
    sizes = dict(chain(*blocks.values()))
    starts = dict(zip(sizes, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
    numbers = {
        name: np.concatenate([starts[files] + np.arange(size) for files, size in own]) for name, own in blocks.items()
    }
    return np.concatenate([numbers[name][start:stop] for name, start, stop in read_parts(source, lengths)])


def _find_blocks(
    lengths: Mapping[str, int], dataset: str, files: Mapping[str, Sequence[str]]
) -> dict[str, list[Block]]:
    """Return split -> its blocks, which are single files only if splits share some of their files but not all."""
    paths = {name: _resolve(own) for name, own in files.items() if name in lengths}
    sizes = Counter(path.stat().st_size for path in {*chain(*paths.values())} if path.is_file())
    identities = {path: _identify(path, sizes) for path in chain(*paths.values())}
    wholes = {name: tuple(identities[path] for path in own) for name, own in paths.items()}
    uses = Counter(file for whole in set(wholes.values()) for file in set(whole))
    if all(count == 1 for count in uses.values()):
        return {name: [(wholes.get(name, (name,)), length)] for name, length in lengths.items()}
    return {name: [((identities[path],), count_rows(dataset, path)) for path in own] for name, own in paths.items()}


def _resolve(patterns: Sequence[str]) -> list[Path]:
    """Return the real paths of files; a pattern that matches no local file is returned as it is."""
    found: list[Path] = []
    for pattern in patterns:
        try:
            local = (
                [pattern] if "://" in pattern or Path(pattern).is_file() else resolve_pattern(pattern, base_path="")
            )
        except FileNotFoundError:  # a path in a repository
            local = [pattern]
        found += [Path(path) if "://" in path else Path(path).resolve() for path in local]
    return found


def _identify(path: Path, sizes: Mapping[int, int]) -> str:
    """Return a digest of the bytes of a file if another file has the same size; otherwise, its path."""
    if not path.is_file() or sizes[path.stat().st_size] < 2:
        return str(path)
    return _digest(path, path.stat().st_size, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest(path: Path, _size: int, _modified: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(dataset: str, path: str | Path) -> int:
    """Return the number of rows in one file."""
    return len(load_dataset(dataset, version_of([str(path)]), data_files=str(path), split="train"))


def version_of(patterns: Sequence[str]) -> str | None:
    """Return a configuration name that changes with the size of any of these files, or None if none is local.

    `datasets` reads a file again only if its path, its modification time or the configuration is new.
    """
    sizes = [path.stat().st_size for path in _resolve(patterns) if path.is_file()]
    return f"size-{fingerprint_values(sizes)}" if sizes else None
