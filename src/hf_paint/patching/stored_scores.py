"""Scores of averaged models, kept in the run folder so that an interrupted search goes on."""

from collections import UserDict
from pathlib import Path

from hf_paint.documents.shapes import read_shaped
from hf_paint.files import write_json
from hf_paint.results.stored import AGAIN


class StoredScores(UserDict[str, float]):
    """A dictionary stored in a JSON file, which is rewritten whenever a value is set.

    Args:
        path: Path to the JSON file.
        write: Whether this process writes the file.
    """

    def __init__(self, path: Path, *, write: bool) -> None:
        super().__init__()
        self.path: Path = path
        self.write: bool = write
        self.data: dict[str, float] = read_shaped(path, dict[str, float], advice=AGAIN) or {}

    def __setitem__(self, name: str, score: float) -> None:
        """Set a score and rewrite the file."""
        super().__setitem__(name, score)
        if self.write:
            write_json(self.path, self.data)
