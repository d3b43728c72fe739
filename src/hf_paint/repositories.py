"""Model names: a folder, a Hub repository id, or an id with a revision (`id@revision`)."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

from hf_paint.errors import InputError, JobError, one_line
from hf_paint.files import exists, expand


REVISION = re.compile(r"[\w./+@=-]{0,250}")
"""Names of branches, tags and commits."""
FAILURES: tuple[type[Exception], ...] = (OSError, RuntimeError, *HfHubHTTPError.__bases__)
"""Errors raised by the disk, the network and the Hub client. The base classes come from the client's HTTP library."""


def fetch(
    name: str | Path,
    file: str,
    revision: str = "main",
    *,
    optional: bool = False,
    failure: type[InputError | JobError] = InputError,
) -> Path | None:
    """Return the path to one of a model's files, downloading it if necessary, or None if it does not exist.

    Args:
        name: Folder, Hub repository id, or `id@revision`.
        file: Name of the file.
        revision: Branch, tag or commit on the Hub.
        optional: Also return None if the file is not in the cache and the Hub cannot be reached, so that cached models
            that do not have the file work offline.
        failure: Type of error to raise if the download fails.

    Raises:
        InputError: If the model or revision does not exist, or the user does not have access to it.

    Example:
        >>> fetch(model_folder, "config.json").name
        'config.json'
        >>> fetch(model_folder, "README.md")
    """
    folder = _folder(name)
    if folder.is_dir():
        return _file_in(folder, file)
    repo_id, revision = split_revision(str(name), revision)
    with _explained(repo_id, revision, failure):
        try:
            return Path(hf_hub_download(repo_id, file, revision=revision))
        except RemoteEntryNotFoundError:
            return None
        except LocalEntryNotFoundError:
            if optional:
                return None
            raise


def cached(name: str | Path, file: str, revision: str = "main") -> Path | None:
    """Return the path to one of a model's files if it is available locally, in a folder or the Hub cache."""
    folder = _folder(name)
    if folder.is_dir():
        return _file_in(folder, file)
    repo_id, revision = split_revision(str(name), revision)
    if not is_repo_id(repo_id):
        return None
    path = try_to_load_from_cache(repo_id, file, revision=revision)
    return Path(path) if isinstance(path, str) else None


def folder_of(
    name: str | Path,
    patterns: Sequence[str],
    revision: str = "main",
    *,
    failure: type[InputError | JobError] = InputError,
) -> Path:
    """Return the folder of a model: the given folder, or a snapshot with the files that match the patterns.

    Args:
        name: Folder, Hub repository id, or `id@revision`.
        patterns: Glob patterns for the files to download.
        revision: Branch, tag or commit on the Hub.
        failure: Type of error to raise if the download fails.

    Raises:
        InputError: If the model or revision does not exist, or the user does not have access to it.
    """
    folder = _folder(name)
    if folder.is_dir():
        return folder
    repo_id, revision = split_revision(str(name), revision)
    with _explained(repo_id, revision, failure):
        return Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(patterns)))


def split_revision(name: str, revision: str = "main") -> tuple[str, str]:
    """Split `id@revision` into its parts; if there is no `@`, use the given revision.

    Example:
        >>> split_revision("me/clip@alpha-0.50")
        ('me/clip', 'alpha-0.50')
    """
    repo_id, _, own = name.partition("@")
    return repo_id, own or revision


def commit_of(folder: Path) -> str | None:
    """Return the commit of a snapshot in the Hub cache, or None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def pinned(name: str, folder: Path) -> str:
    """Return a permanent name for the model in a folder: `id@commit` for a Hub snapshot, otherwise the folder."""
    commit = commit_of(folder)
    return f"{split_revision(name)[0]}@{commit}" if commit else str(folder)


def is_repo_id(name: str) -> bool:
    """Return whether a name is a Hub repository id rather than a folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not exists(Path(name))


def absolute(name: str) -> str:
    """Make the path to a folder absolute, so that recipes work from anywhere; Hub ids are returned unchanged."""
    path = expand(name)
    return str(path.resolve()) if exists(path) and path.is_dir() else name


def _folder(name: str | Path) -> Path:
    """Return the folder that a name may stand for.

    Raises:
        InputError: If the name can be neither that of a folder nor a repository id and a revision.
    """
    revision = split_revision(str(name), "")[1]
    try:
        expand(name).stat()
    except FileNotFoundError:
        if ".." in revision.split("/") or not REVISION.fullmatch(revision):
            raise InputError(f"'{name!s:.100}' has the revision '{revision:.100}', which cannot be one.") from None
    except PermissionError:
        pass
    except (OSError, ValueError) as error:  # too long, with a NUL or half a character, or below a file
        text = ascii(str(name))[1:-1]
        raise InputError(f"'{text:.100}' is neither a folder nor a Hub repository id.") from error
    return expand(name)


def _file_in(folder: Path, file: str) -> Path | None:
    return folder / file if (folder / file).is_file() else None


@contextmanager
def _explained(repo_id: str, revision: str, failure: type[InputError | JobError]) -> Iterator[None]:
    """Turn download errors into one-line errors."""
    try:
        yield
    except HFValidationError as error:
        raise InputError(f"'{repo_id}' is neither a folder nor a Hub repository id.") from error
    except GatedRepoError as error:
        raise InputError(
            f"The repository '{repo_id}' is gated. Request access at https://huggingface.co/{repo_id}, then log in: "
            "hf auth login"
        ) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"'{repo_id}' is neither a folder nor a repository on the Hub that you have access to. If it is private, "
            "log in: hf auth login"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"'{repo_id}' has no branch, tag or commit '{revision}'.") from error
    except FAILURES as error:
        raise failure(
            f"'{repo_id}' is not a folder, and downloading it from the Hub at revision '{revision}' failed: "
            f"{one_line(error) or type(error).__name__}"
        ) from error
