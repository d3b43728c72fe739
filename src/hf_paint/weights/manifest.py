"""Checksums of the files of an artifact (a folder), written when it is complete and verified when it is read."""

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError
from hf_paint.files import save_atomically, save_folder_atomically, save_together, write_json
from hf_paint.fingerprints import file_checksum


MANIFEST = "hf_paint_manifest.json"
"""File with the size and the CRC-32 of every other file in its folder; it is never published."""
LARGEST = 2**28
"""Size of the largest manifest that is read: that of a run with a million records."""
EDITABLE = ("README.md", "*.png")
"""Glob patterns for what a model shows to people, who may edit or remove it."""


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a file of a folder that has a manifest.

    Attributes:
        folder: The folder.
        name: Path to the file, relative to the folder.
        clause: What is wrong, as a clause that names the file.
    """

    folder: Path
    name: str
    clause: str

    @property
    def path(self) -> Path:
        """Path to the file."""
        return self.folder / self.name

    def error(self, advice: str) -> InputError:
        """Return the error for this damage, with a sentence on what to do."""
        return InputError(f"{self.clause}. {advice} If you changed it yourself, delete {self.folder / MANIFEST}.")


def seal(folder: Path, patterns: Sequence[str] = ("**/*",)) -> None:
    """Write the manifest of a complete folder, with the files in it and below it that match any of the patterns.

    Example:
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"weights")
        >>> seal(tmp_path)
        >>> list(damages(tmp_path))
        []
    """
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    _write(folder / MANIFEST, {path.relative_to(folder).as_posix(): path for path in files})


def seal_file(path: Path) -> None:
    """Write the checksum of a file that has been written again into the manifest of its folder, if that has one."""
    manifest = path.parent / MANIFEST
    if (stored := read_json(manifest, limit=LARGEST)) is not None:
        write_json(manifest, {"files": {**stored["files"], path.name: _entry(path)}})


def save_folder_sealed(folder: Path, save: Callable[[Path], None]) -> None:
    """Write a folder like `save_folder_atomically`, with its manifest."""

    def save_and_seal(partial: Path) -> None:
        save(partial)
        seal(partial)

    save_folder_atomically(folder, save_and_seal)


@contextmanager
def save_sealed(folder: Path, *, replaces: Sequence[str] = ()) -> Iterator[Callable[[str], Path]]:
    """Save several files together, like `save_together`, with their manifest as the last one."""
    files: dict[str, Path] = {}
    with save_together(folder, replaces=[*replaces, MANIFEST]) as partial:

        def remember(name: str) -> Path:
            return files.setdefault(name, partial(name))

        yield remember
        _write(partial(MANIFEST), files)


def damages(folder: Path) -> Iterator[Damage]:
    """Yield what is wrong with the files of a folder.

    A folder without a manifest, such as one of an earlier version or from the Hub, counts as whole. A file is read
    only once by each process unless it is modified, at about 4 GB/s.

    Example:
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"weights")
        >>> seal(tmp_path)
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"Weights")
        >>> [damage.clause.removeprefix(str(tmp_path)) for damage in damages(tmp_path)]
        ['/model.safetensors has other bytes than when it was saved']
    """
    manifest = folder / MANIFEST
    try:
        stored = read_json(manifest, limit=LARGEST)
    except (InputError, OSError):
        yield Damage(folder, MANIFEST, f"{manifest} cannot be read")
        return
    files = {} if stored is None else stored.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        yield Damage(folder, MANIFEST, f"{manifest} lists no files")
        return
    for name, entry in files.items():
        if (clause := _damage(folder / name, entry)) is not None:
            yield Damage(folder, name, clause)


def keep_whole_lines(path: Path) -> None:
    """Keep those lines of a damaged `.jsonl` file that are in the manifest of its folder, and remove all others."""
    files = (read_json(path.parent / MANIFEST, limit=LARGEST) or {})["files"]
    known = set(files[path.name].get("lines", []))
    content = b"".join(line for line in _lines(path) if zlib.crc32(line) in known)

    def save(partial: Path) -> None:
        partial.write_bytes(content)

    save_atomically(path, save)


def check_whole(folder: Path, *, may_lack_files: bool = False) -> None:
    """Check the files of a folder against its manifest, if it has one.

    Args:
        folder: The folder.
        may_lack_files: Whether people may have removed any file.

    Raises:
        InputError: If a file is missing or damaged, other than those that people may edit.
    """
    for damage in damages(folder):
        is_editable = any(damage.path.match(pattern) for pattern in EDITABLE)
        if not (is_editable or (may_lack_files and not damage.path.exists())):
            raise damage.error(f"Restore it from a copy, or remove {folder} and make it again.")


def _write(manifest: Path, files: Mapping[str, Path]) -> None:
    """Write a manifest of files, name -> where it is now."""
    write_json(manifest, {"files": {name: _entry(path) for name, path in files.items() if name != MANIFEST}})


def _entry(path: Path) -> dict[str, object]:
    entry: dict[str, object] = {"size": path.stat().st_size, "crc32": file_checksum(path)}
    if path.suffix == ".jsonl":
        entry["lines"] = [zlib.crc32(line) for line in _lines(path)]
    return entry


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines(keepends=True)


def _damage(path: Path, entry: Mapping[str, object]) -> str | None:
    """Return what is wrong with one file, or None."""
    try:
        size = path.stat().st_size
        if not path.is_file():
            return f"{path} is not a file"
        if size != entry.get("size"):
            return f"{path} has {size} bytes instead of {entry.get('size')}"
        return None if file_checksum(path) == entry.get("crc32") else f"{path} has other bytes than when it was saved"
    except FileNotFoundError:
        return f"{path} is missing"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
