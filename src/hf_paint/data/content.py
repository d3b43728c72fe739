"""The content of a split: a fingerprint of its images and labels that does not depend on where its files are."""

import hashlib
from os.path import commonpath
from pathlib import Path

from hf_paint.data.digests import read_digests
from hf_paint.data.sources import stream_files
from hf_paint.data.splits import Split, source_of
from hf_paint.fingerprints import fingerprint_values


def fingerprint_content(split: Split) -> str:
    """Return a fingerprint of what training and evaluation read from a split.

    It covers the encoded images in their order, the labels, words and candidates, the class names and prompts, and the
    changes that the task makes to the images. Images are not decoded, and are read only
    once (see `read_digests`). For a stream, it covers the data files instead: the bytes of local files, and the
    addresses of those on the Hub, which contain their commit.

    `Split.fingerprint` is faster, but it identifies local files by their path and modification time.

    Example:
        >>> from hf_paint.data.splits import load_splits
        >>> splits = load_splits(task)
        >>> fingerprint_content(splits["train"]) == fingerprint_content(splits["test"])
        False
    """
    images = _streamed_files(split) if split.task.streaming else read_digests(split).tobytes().hex()
    return fingerprint_values(*_labels(split), *_changes(split), images)


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


def _streamed_files(split: Split) -> list[tuple[str, str]]:
    """Return the name and a digest of each file of a stream. Names of local files are relative to their folder."""
    files = stream_files(split.task, source_of(split.task, split.name) or split.name)
    local = [file for file in files if Path(file).is_file()]
    root = commonpath([Path(file).parent for file in local]) if local else ""
    return [(str(Path(file).relative_to(root)), _digest(file)) if file in local else (file, "") for file in files]


def _digest(file: str) -> str:
    with Path(file).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
