"""The content of a split: a fingerprint of its images and labels that does not depend on where its files are."""

import hashlib
from collections.abc import Iterator
from os.path import commonpath
from pathlib import Path

from datasets import Dataset

from hf_paint.data.sources import stream_files
from hf_paint.data.splits import Split, source_of
from hf_paint.fingerprints import LENGTH, fingerprint_values


ROWS = 1000
"""Number of rows to read at a time."""
BLOCK = 1 << 20
"""Number of bytes of a file to read at a time."""


def fingerprint_content(split: Split) -> str:
    """Return a fingerprint of what training and evaluation read from a split.

    It covers the encoded images in their order, the labels, words and candidates, the class names and prompts, and the
    changes that the task makes to the images. Images are not decoded, so this is about as fast as reading the files.
    For a stream, it covers the data files instead: the bytes of local files, and the addresses of those on the Hub,
    which contain their commit.

    `Split.fingerprint` is faster, but it identifies local files by their path and modification time.

    Example:
        >>> from hf_paint.data.splits import load_splits
        >>> splits = load_splits(task)
        >>> fingerprint_content(splits["train"]) == fingerprint_content(splits["test"])
        False
    """
    digest = hashlib.sha256(fingerprint_values(*_labels(split), *_changes(split)).encode())
    for image in _streamed_files(split) if split.task.streaming else _images(split.rows, split.task.image_column):
        digest.update(len(image).to_bytes(8, "big"))
        digest.update(image)
    return digest.hexdigest()[:LENGTH]


def _labels(split: Split) -> list[object]:
    """Return the class names and, unless they are streamed, the labels and words of all rows."""
    task = split.task
    values: list[object] = [list(split.class_names), list(task.templates), task.class_groups]
    if split.label_indices is not None:
        values.append(split.targets(split.label_indices).tolist())
    if split.word_indices is not None:
        values.append(split.word_indices.tolist())
    return values


def _changes(split: Split) -> list[object]:
    """Return what the task does to the images after they are decoded."""
    corruption, attack = split.task.corruption, split.task.attack
    return [corruption and corruption.identity, attack and [attack.identity, split.name]]


def _images(rows: Dataset, column: str) -> Iterator[bytes]:
    """Yield the encoded images of all rows."""
    for table in rows.select_columns([column]).with_format("arrow").iter(batch_size=ROWS):
        for image in table[column].to_pylist():
            yield _encoded(image or {})


def _encoded(image: dict[str, bytes | str | None]) -> bytes:
    """Return the bytes of an image, which are either in its row or in a file."""
    stored, path = image.get("bytes"), image.get("path")
    if isinstance(stored, bytes):
        return stored
    try:
        return Path(str(path)).read_bytes()
    except OSError:  # decoding the image fails with a better message
        return str(path).encode()


def _streamed_files(split: Split) -> Iterator[bytes]:
    """Yield the name and the content of each file of a stream. Names of local files are relative to their folder."""
    files = stream_files(split.task, source_of(split.task, split.name) or split.name)
    local = [file for file in files if Path(file).is_file()]
    root = commonpath([Path(file).parent for file in local]) if local else ""
    for file in files:
        if file not in local:
            yield file.encode()
            continue
        yield str(Path(file).relative_to(root)).encode()
        with Path(file).open("rb") as stream:
            while block := stream.read(BLOCK):
                yield block
