"""The content of a split: a fingerprint of its images and labels that does not depend on where its files are."""

import hashlib
from dataclasses import replace
from pathlib import Path

from hf_paint.data.digests import read_digests
from hf_paint.data.folders import is_folder
from hf_paint.data.sources import load_rows, stream_files
from hf_paint.data.splits import Split, load_splits, source_of
from hf_paint.data.stored_images import image_files
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.classification import ClassificationTask


def fingerprint_content(split: Split) -> str:
    """Return a fingerprint of what training and evaluation read from a split.

    It covers the encoded images in their order, the labels, words and candidates, the class names and prompts, and the
    changes that the task makes to the images. Images are not decoded, and are read only once (see `read_digests`).

    For a stream, it covers the data files instead, and the image files that they list: the bytes of local files, and
    the addresses of those on the Hub, which contain their commit. A streamed folder counts as the same folder without
    `streaming`.

    `Split.fingerprint` is faster, but it identifies local files by their path and modification time.

    Example:
        >>> from hf_paint.data.splits import load_splits
        >>> splits = load_splits(task)
        >>> fingerprint_content(splits["train"]) == fingerprint_content(splits["test"])
        False
    """
    if isinstance(split.task, ClassificationTask) and split.task.streaming and is_folder(split.task):
        split = load_splits(replace(split.task, streaming=False), (split.name,))[split.name]
    images = _streamed_files(split) if split.task.streaming else read_digests(split).tobytes().hex()
    return fingerprint_values(*_labels(split), *_changes(split), images)


def _labels(split: Split) -> list[object]:
    """Return the class names and, unless they are streamed, the labels, words and answer types of all rows."""
    task = split.task
    values: list[object] = [list(split.class_names), list(task.templates), task.class_groups]
    if split.label_indices is not None:
        values.append(split.targets(split.label_indices).tolist())
    if split.word_indices is not None:
        values.append(split.word_indices.tolist())
    if split.choices is not None and split.choices.answer_types is not None:
        values.append(split.choices.answer_types)
    return values


def _changes(split: Split) -> list[object]:
    """Return what the task does to the images after they are decoded."""
    corruption, attack = split.task.corruption, split.task.attack
    return [corruption and corruption.identity, attack and [attack.identity, split.name]]


def _streamed_files(split: Split) -> list[str]:
    """Return a digest of each file that a stream is read from, in order, or the address of a file on the Hub."""
    task, source = split.task, source_of(split.task, split.name) or split.name
    files = [*stream_files(task, source), *image_files(load_rows(task, source).table, task.image_column)]
    return [_digest(file) if Path(file).is_file() else file for file in files]


def _digest(file: str) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
