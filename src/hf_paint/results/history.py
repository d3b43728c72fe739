"""The history of the choices of alpha in a run folder, kept in `selection.json`."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from hf_paint.documents.reading import read_json


CHOICE = ("alpha", "rule", "tolerance")
"""Keys of `selection.json` that say what was chosen, and by which rule."""


def with_history(selection: Mapping[str, object], path: Path) -> dict[str, object]:
    """Return the contents of `selection.json` with the choices that it replaces.

    Choosing the same again changes nothing, so an interrupted job that is repeated leaves the same file.

    Args:
        selection: New contents, without a history.
        path: Path to `selection.json`, which may not exist yet.
    """
    before = read_json(path)
    if before is None:
        return dict(selection)
    if all(before.get(key) == selection[key] for key in CHOICE):
        return {**selection, **{key: before[key] for key in ("chosen_at", "history") if key in before}}
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    earlier = {key: before.get(key) for key in CHOICE} | {"chosen_at": before.get("chosen_at") or _text(written)}
    return {**selection, "chosen_at": _text(datetime.now(UTC)), "history": [*before.get("history", []), earlier]}


def _text(time: datetime) -> str:
    return time.isoformat(timespec="seconds")
