"""The data files that a path leads to: which format reads them, and which split each of them belongs to."""

import json
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hf_paint.errors import InputError


MEMORY = "memory"
"""Value of `dataset` for data that a Python program holds in memory."""
LOCAL_FILES = ("arrow", "csv", "imagefolder", "json", MEMORY, "parquet", "typographic_folder", "webdataset")
"""Values of `dataset` for data that are not on the Hub: formats that `datasets` reads, and hf_paint's own."""
FORMATS = {
    **{".parquet": "parquet", ".arrow": "arrow", ".csv": "csv", ".tsv": "csv", ".json": "json", ".jsonl": "json"},
    **{".tar": "webdataset", ".zip": "imagefolder"},
}
"""Ending of a file -> the loader that reads it."""
PICTURES = frozenset(
    f".{ending}" for ending in ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "tga", "jp2", "avif"]
)
"""Endings of pictures, as far as they tell a folder of pictures from one of data files."""
SPLIT_WORDS = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
"""Usual name of a split -> the words for it in the names of files, as `datasets` has them."""
NUM_LOOKED_AT = 2000
"""Number of files of a folder that are looked at to tell what it holds."""
_ANY_WORD = "|".join(f"(?P<{split}>{'|'.join(words)})" for split, words in SPLIT_WORDS.items())
_WORD = re.compile(rf"(?:^|[^a-z])(?:{_ANY_WORD})(?=[^a-z]|$)")


def files_of(path: Path) -> dict[str, object]:
    """Return the keys of a task definition that read one file.

    Raises:
        InputError: If nothing reads files with this ending.
    """
    loader = FORMATS.get(path.suffix.lower())
    if loader is None:
        known = ", ".join(FORMATS)
        raise InputError(
            f"'{path}' cannot be read as a task: its ending '{path.suffix}' is none of {known}. Name a file with one "
            "of these endings, a task YAML, or the folder that holds the pictures."
        )
    if loader == "imagefolder":
        return {"dataset": loader, "data_dir": str(path.absolute())}
    return {"dataset": loader, "data_files": {"train": [str(path.absolute())]}}


def describe_folder(folder: Path) -> dict[str, object]:
    """Return the keys of a task definition that read a folder: pictures, data files, or what `save_to_disk` wrote.

    Raises:
        InputError: If the folder is empty, holds nothing that can be read, or it is unclear how.
    """
    folder = folder.absolute()
    if saved := _saved_to_disk(folder):
        return {"dataset": "arrow", "data_files": saved}
    endings = Counter(path.suffix.lower() for path in islice(_walk(folder), NUM_LOOKED_AT))
    files = {ending: count for ending, count in endings.items() if FORMATS.get(ending)}
    pictures = sum(count for ending, count in endings.items() if ending in PICTURES)
    if not pictures and not files:
        what = "is empty" if not endings else f"holds no pictures or data files, only files like *{min(endings)}"
        raise InputError(
            f"The folder '{folder}' {what}. Name a folder of pictures in class folders, or of {', '.join(FORMATS)} files."
        )
    if pictures >= sum(files.values()) or set(files) == {".zip"}:
        return {"dataset": "imagefolder", "data_dir": str(folder)}
    loaders = sorted({FORMATS[ending] for ending in files} - {"imagefolder"})
    if len(loaders) > 1:
        raise InputError(
            f"The folder '{folder}' holds files of several formats ({', '.join(sorted(files))}). Name one of the files, "
            "or list them: {dataset: " + loaders[0] + ", data_files: {train: ..., test: ...}}."
        )
    paths = sorted(path for path in _walk(folder) if FORMATS.get(path.suffix.lower()) == loaders[0])
    return {"dataset": loaders[0], "data_files": _by_split(folder, paths, loaders[0])}


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the files below a folder, without hidden ones."""
    for place, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(place, name) for name in sorted(names) if not name.startswith("."))


def _by_split(folder: Path, paths: Sequence[Path], loader: str) -> dict[str, list[str]]:
    """Return split -> its files, by the words in their names or else in those of their folders; `train` without any."""
    splits = {path: _split_of(path.relative_to(folder)) for path in paths}
    named = [path for path, split in splits.items() if split is not None]
    if not named:
        return {"train": [str(path) for path in paths]}
    if others := [path for path, split in splits.items() if split is None]:
        raise InputError(
            f"The folder '{folder}' holds '{named[0].name}', which is named like a split, and '{others[0].name}', which "
            f"is not. List the files of each split: {{dataset: {loader}, data_files: {{train: ..., test: ...}}}}."
        )
    return {split: own for split in SPLIT_WORDS if (own := [str(path) for path in paths if splits[path] == split])}


def _split_of(path: Path) -> str | None:
    for part in (path.name.partition(".")[0], *reversed(path.parts[:-1])):
        if match := _WORD.search(part.lower()):
            return match.lastgroup
    return None


def _saved_to_disk(folder: Path) -> dict[str, list[str]]:
    """Return split -> files of a data set that `save_to_disk` wrote, empty for any other folder."""
    splits = _read_json(folder / "dataset_dict.json").get("splits")
    if isinstance(splits, list):
        return {str(split): _arrow_files(folder / str(split)) for split in splits}
    files = _arrow_files(folder)
    return {"train": files} if files else {}


def _arrow_files(folder: Path) -> list[str]:
    files = _read_json(folder / "state.json").get("_data_files")
    return [str(folder / file["filename"]) for file in files] if isinstance(files, list) else []


def _read_json(path: Path) -> dict[str, object]:
    try:
        value = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
