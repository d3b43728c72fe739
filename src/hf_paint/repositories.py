"""A model by its name: a folder, an id on the Hub, an id at a revision."""

from pathlib import Path

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]


def pinned(name_or_path: str, folder: Path) -> str:
    """Return the name of a model that was found in a folder so that it stays the same: with its commit on the Hub."""
    on_the_hub = folder.parent.name == "snapshots"
    return f"{name_or_path.partition('@')[0]}@{folder.name}" if on_the_hub else str(folder)


def is_repo_id(name: str) -> bool:
    """Return whether a name is an id on the Hub, and no folder."""
    try:
        validate_repo_id(name)
    except HFValidationError:
        return False
    return not Path(name).exists()


def absolute(name: str) -> str:
    """Return a folder by its absolute path, so that the recipe works from anywhere, and an id on the Hub as it is."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.is_dir() else name
