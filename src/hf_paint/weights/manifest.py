"""Checksums of the files of an artifact (a folder), written when it is complete and verified when it is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError
from hf_paint.files import save_folder_atomically, save_together, write_json
from hf_paint.fingerprints import file_checksum


MANIFEST = "hf_paint_manifest.json"
"""File with the size and the CRC-32 of every other file in its folder; it is never published."""
EDITABLE = ("README.md",)
"""Files that people may edit, so they have no checksum."""


def seal(folder: Path) -> None:
    """Write the manifest of a complete folder, with all files in it and below it.

    Example:
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"weights")
        >>> seal(tmp_path)
        >>> damage(tmp_path) is None
        True
    """
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    _write(folder / MANIFEST, {path.relative_to(folder).as_posix(): path for path in files})


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


def damage(folder: Path) -> str | None:
    """Return what is wrong with the files of a folder, as a clause that names the file, or None if they are whole.

    A folder without a manifest, such as one of an earlier version or from the Hub, counts as whole. A file is read
    only once by each process unless it is modified, at about 4 GB/s.

    Example:
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"weights")
        >>> seal(tmp_path)
        >>> _ = (tmp_path / "model.safetensors").write_bytes(b"Weights")
        >>> str(damage(tmp_path)).removeprefix(str(tmp_path))
        '/model.safetensors has other bytes than when it was saved'
    """
    manifest = folder / MANIFEST
    try:
        stored = read_json(manifest)
    except (InputError, OSError):
        return f"{manifest} cannot be read"
    if stored is None:
        return None
    files = stored.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        return f"{manifest} lists no files"
    clauses = (_damage(folder / name, entry) for name, entry in files.items())
    return next((clause for clause in clauses if clause), None)


def check_whole(folder: Path) -> None:
    """Check the files of a folder against its manifest, if it has one.

    Raises:
        InputError: If a file is missing or damaged.
    """
    if (clause := damage(folder)) is not None:
        raise InputError(f"{clause}: it is damaged. Restore it from a copy, or remove {folder} and make it again.")


def _write(manifest: Path, files: Mapping[str, Path]) -> None:
    """Write a manifest of files, name -> where it is now."""
    listed = {name: path for name, path in files.items() if name not in (MANIFEST, *EDITABLE)}
    entries = {name: {"size": path.stat().st_size, "crc32": file_checksum(path)} for name, path in listed.items()}
    write_json(manifest, {"files": entries})


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
