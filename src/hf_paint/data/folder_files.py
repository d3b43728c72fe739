"""List the pictures in a folder, and every other file in it. A zip file is read as the folder that it contains."""

import os
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from datasets.data_files import resolve_pattern
from datasets.packaged_modules.imagefolder.imagefolder import ImageFolder
from filelock import FileLock

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.data.read_once import ReadOnce
from hf_paint.errors import InputError, one_line
from hf_paint.files import expand, save_folder_atomically
from hf_paint.fingerprints import fingerprint_values


PICTURES = frozenset(ImageFolder.EXTENSIONS)
"""Extensions of the files that Pillow opens, in lower case."""
METADATA = frozenset(ImageFolder.METADATA_FILENAMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file below a folder.

    Attributes:
        path: Path to the file, a string because a folder may have millions of them.
        folders: Names of the folders that lead to it.
        size: Size in bytes.
        modified: Time of the last change, in nanoseconds; for a file in a zip, that of the zip.
        inode: Device and inode, which are equal for links to the same file.
    """

    path: str
    folders: tuple[str, ...]
    size: int
    modified: int
    inode: tuple[int, int]

    @property
    def place(self) -> str:
        """Path below the folder, with forward slashes."""
        return "/".join((*self.folders, self.name))

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.rpartition(os.sep)[2]

    @property
    def extension(self) -> str:
        """Extension in lower case, with the dot."""
        return "." + self.name.rpartition(".")[2].lower()


@dataclass(frozen=True, slots=True)
class Listing:
    """All files below a folder.

    Attributes:
        pictures: Pictures, sorted by path.
        metadata: Files called `metadata.csv`, `metadata.jsonl` or `metadata.parquet`.
        others: Paths of all other files, hidden folders and broken links.
        empty: Paths of the folders without files.
    """

    pictures: tuple[File, ...] = ()
    metadata: tuple[File, ...] = ()
    others: tuple[str, ...] = ()
    empty: tuple[str, ...] = ()

    def __add__(self, other: "Listing") -> "Listing":
        return Listing(
            self.pictures + other.pictures,
            self.metadata + other.metadata,
            self.others + other.others,
            self.empty + other.empty,
        )


_listings: ReadOnce[None, Listing] = ReadOnce()


def list_folder(path: Path) -> Listing:
    """List a folder or a zip file, following links.

    Zip files in a folder are read only if the folder itself contains no pictures, since a zip beside pictures is
    usually where they came from. The name of a zip counts as the name of a folder.

    Raises:
        InputError: If a folder or zip file cannot be read.
    """
    return _listings.get(path, None, partial(_list_folder, path))


def _list_folder(path: Path) -> Listing:
    if path.is_file():
        return _list_zip(describe_file(path, ()), ())
    found: list[File | str] = []
    empty: list[str] = []
    try:
        _walk(path, (), frozenset(), found, empty)
    except OSError as error:
        raise InputError(f"The folder {path} cannot be read: {one_line(error)}") from error
    return _sort(found, empty)


def list_files(patterns: Sequence[str]) -> Listing:
    """List files, folders and zip files, given by paths or glob patterns.

    Raises:
        InputError: If a path does not exist, or a pattern matches no files.
    """
    listing = Listing()
    for pattern in patterns:
        path = expand(pattern).absolute()
        if path.is_dir():
            listing += _below(list_folder(path), path.parts[1:])
        else:
            paths = [path] if path.exists() else _match(path)
            listing += _sort([describe_file(path, path.parent.parts[1:]) for path in paths], [])
    return listing


def count_common(paths: Iterable[tuple[str, ...]]) -> int:
    """Return the number of parts with which all paths start.

    Example:
        >>> count_common([("data", "train", "cat"), ("data", "train", "dog")])
        2
    """
    return len(list(takewhile(lambda parts: len(set(parts)) == 1, zip(*paths, strict=False))))


def _match(pattern: Path) -> list[Path]:
    try:
        return [Path(path) for path in resolve_pattern(str(pattern), base_path="")]
    except FileNotFoundError as error:
        raise InputError(f"`data_files` names '{pattern}', but no such file exists. Correct the path.") from error


def _walk(
    folder: Path, names: tuple[str, ...], above: frozenset[str], found: list[File | str], empty: list[str]
) -> None:
    """Collect the files below a folder, and the paths of what is neither a file nor a folder to enter."""
    above |= {os.path.realpath(folder)}
    with os.scandir(folder) as scan:
        entries = list(scan)
    if not entries:
        empty.append("/".join(names))
    for entry in entries:
        is_hidden = entry.name.startswith(".") or entry.name == "__MACOSX"  # a Mac adds it to zip files
        if entry.is_dir() and not is_hidden and os.path.realpath(entry.path) not in above:
            _walk(Path(entry.path), (*names, entry.name), above, found, empty)
        elif entry.is_file() and not is_hidden:
            found.append(describe_file(entry, names))
        else:
            found.append("/".join((*names, entry.name)) + "/" * entry.is_dir())


def describe_file(path: "Path | os.DirEntry[str]", folders: tuple[str, ...]) -> File:
    """Describe a file, which is found below these folders."""
    state = path.stat()
    inode = (state.st_dev, state.st_ino)
    return File(path=os.fspath(path), folders=folders, size=state.st_size, modified=state.st_mtime_ns, inode=inode)


def _sort(found: Sequence[File | str], empty: Sequence[str]) -> Listing:
    """Sort files into pictures, metadata and others, and open zip files if there are no pictures."""
    files = sorted((file for file in found if isinstance(file, File)), key=lambda file: file.place)
    pictures = tuple(file for file in files if file.extension in PICTURES)
    metadata = tuple(file for file in files if file.name in METADATA)
    zips = [] if pictures else [file for file in files if file.extension == ".zip"]
    read = {file.path for file in (*pictures, *metadata, *zips)}
    others = [file.place for file in files if file.path not in read] + [
        name for name in found if isinstance(name, str)
    ]
    others.sort(key=lambda name: (name.startswith("."), name))
    listing = Listing(pictures, metadata, tuple(others), tuple(sorted(empty)))
    for file in zips:
        listing += _list_zip(file, (*file.folders, file.name.rpartition(".")[0]))
    return listing


def _list_zip(file: File, names: tuple[str, ...]) -> Listing:
    """Extract a zip file into the cache, unless an earlier run did, and list its files below these folders."""
    identity = fingerprint_values(str(Path(file.path).resolve()), file.size, file.modified)
    folder = default_cache_dir() / "folders" / identity

    def extract(partial: Path) -> None:
        with zipfile.ZipFile(file.path) as archive:
            archive.extractall(partial)

    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(f"{folder}.lock"):
            if not folder.exists():
                save_folder_atomically(folder, extract)
    except (
        zipfile.BadZipFile,
        zlib.error,
        NotImplementedError,
        RuntimeError,
    ) as error:  # RuntimeError if it is encrypted
        raise InputError(f"The zip file {file.path} cannot be read: {one_line(error)}") from error
    return _below(list_folder(folder), names, modified=file.modified)


def _below(listing: Listing, names: tuple[str, ...], modified: int | None = None) -> Listing:
    """Return a listing as seen from a folder further up."""

    def move(files: Sequence[File]) -> Iterator[File]:
        """Yield files with the folders above them."""
        for file in files:
            changed = file.modified if modified is None else modified
            yield replace(file, folders=(*names, *file.folders), modified=changed)

    prefix = "".join(f"{name}/" for name in names)
    return Listing(
        tuple(move(listing.pictures)),
        tuple(move(listing.metadata)),
        tuple(prefix + name for name in listing.others),
        tuple(prefix + name for name in listing.empty),
    )
