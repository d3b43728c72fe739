"""The data files that a path leads to: which format reads them, and which split each of them belongs to."""

import os
import re
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError, one_line
from hf_paint.files import is_folder


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
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
        *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2"),
    )
)
"""Endings of pictures, as far as they tell a folder of pictures from one of data files."""
DESCRIPTIONS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
"""Files that describe a data set, beside those that hold it."""
SPLIT_WORDS: dict[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "dev", "val"),
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
    found = list(islice(_walk(folder, frozenset()), NUM_LOOKED_AT))
    pictures = [path for path in found if path.suffix.lower() in PICTURES]
    tables = [path for path in found if _loader_of(path) not in (None, "imagefolder")]
    zips = [path for path in found if _loader_of(path) == "imagefolder"]
    if (len(pictures) >= len(tables) and pictures) or (zips and not tables):
        _refuse_table_beside(folder, pictures, tables)
        return {"dataset": "imagefolder", "data_dir": str(folder)}
    if not tables:
        what = f"holds no pictures or data files, only files like '{found[0].name}'" if found else "is empty"
        raise InputError(
            f"The folder '{folder}' {what}. Name a folder of pictures in class folders, or of files that end in "
            f"{', '.join(FORMATS)}."
        )
    loader, *others = sorted({str(_loader_of(path)) for path in tables})
    if others:
        raise InputError(
            f"The folder '{folder}' holds files of several formats, like '{tables[0].name}' and "
            f"'{next(path.name for path in tables if _loader_of(path) != _loader_of(tables[0]))}'. Name one of the "
            f"files, or list them: {{dataset: {loader}, data_files: {{train: ..., test: ...}}}}."
        )
    paths = sorted(path for path in _walk(folder, frozenset()) if _loader_of(path) == loader)
    return {"dataset": loader, "data_files": _by_split(folder, paths, loader)}


def _refuse_table_beside(folder: Path, pictures: Sequence[Path], tables: Sequence[Path]) -> None:
    """Refuse pictures of a single folder beside one table, which is meant to label them."""
    if len(tables) == 1 and len({picture.parent for picture in pictures}) < 2 and tables[0].stem != "metadata":
        raise InputError(
            f"The folder '{folder}' holds pictures without class folders, and the file '{tables[0].name}'. Name that "
            f"file, '{tables[0]}', if it lists the pictures and their labels."
        )


def _loader_of(path: Path) -> str | None:
    return None if path.name in DESCRIPTIONS else FORMATS.get(path.suffix.lower())


def _walk(folder: Path, above: frozenset[str]) -> Iterator[Path]:
    """Yield the files below a folder, following links, without hidden ones."""
    above |= {os.path.realpath(folder)}
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be read: {one_line(error)}") from error
    for path in paths:
        if path.name.startswith("."):
            continue
        if not is_folder(path):
            yield path
        elif os.path.realpath(path) not in above:
            yield from _walk(path, above)


def _by_split(folder: Path, paths: Sequence[Path], loader: str) -> dict[str, list[str]]:
    """Return split -> its files, by the words in their names or those of their folders; `train` without any."""
    splits = {path: _split_of(path.relative_to(folder)) for path in paths}
    named = [path for path, split in splits.items() if split is not None]
    if not named:
        return {"train": [str(path) for path in paths]}
    if others := [path for path, split in splits.items() if split is None]:
        raise InputError(
            f"The folder '{folder}' holds '{named[0].name}', which is named like a split, and '{others[0].name}', "
            f"which is not. List the files of each split: {{dataset: {loader}, data_files: {{train: ...}}}}."
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
    names = [file.get("filename") for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return [str(folder / name) for name in names if isinstance(name, str)]


def _read_json(path: Path) -> dict[str, object]:
    try:
        return read_json(path) or {}
    except InputError:  # it is of something else
        return {}
