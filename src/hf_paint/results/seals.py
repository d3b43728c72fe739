"""The seal of a run: checksums of its records and other small files, as long as no process works in its folder."""

import logging
from pathlib import Path

from hf_paint.errors import InputError
from hf_paint.files import remove_any
from hf_paint.results.locks import check_idle
from hf_paint.weights.manifest import MANIFEST, damages, keep_whole_lines, seal


REPORT = "report.html"
SEALED = ("*.json", "*.jsonl", "*.yaml", "*.png", "correct/*", "predictions/*", REPORT)
"""Glob patterns for the files that have a checksum; models have a manifest of their own."""
RECORDS = ("results.jsonl", "ensemble.jsonl", "details.jsonl")
"""Files with a line for each evaluation. Damaged lines are removed; if a file is missing, so are the other ones."""
KEPT = ("recipe.yaml", "step.yaml", "identity.json", "selection.json")
"""Files that no run can make again as they were: what it was started with, and what people chose."""

logger = logging.getLogger(__name__)


def seal_run(folder: Path) -> None:
    """Write the checksums of a run that has just finished."""
    seal(folder, SEALED)


def break_seal(folder: Path) -> None:
    """Verify a run before another process works in its folder, and remove what is damaged and can be made again.

    Raises:
        InputError: If a file is damaged that cannot be made again.
    """
    for path, clause in [*damages(folder)]:
        if path.name in (*KEPT, MANIFEST):
            raise InputError(f"{clause}. Restore it from a copy, or delete {folder / MANIFEST} if you changed it.")
        if path.exists() or path.name in RECORDS:
            logger.warning(f"{clause}, so its damaged parts are made again.")
        if path.name in RECORDS and path.is_file():
            keep_whole_lines(path)
        else:
            for damaged in (folder / name for name in RECORDS) if path.name in RECORDS else [path]:
                remove_any(damaged)
    (folder / MANIFEST).unlink(missing_ok=True)


def check_readable(folder: Path) -> None:
    """Check that no process works in a run folder, and that its files are those that were saved, before it is read.

    Raises:
        InputError: If a process holds its lock, or a file is damaged.
    """
    check_idle(folder)
    check_sealed(folder)


def check_sealed(folder: Path, *, reads_report: bool = False) -> None:
    """Check that the files of a run, or of one of its models, are those that were saved.

    Args:
        folder: Run folder, or a folder in it.
        reads_report: Whether the report is read too.

    Raises:
        InputError: If a file is missing or damaged.
    """
    for path, clause in damages(folder):
        if reads_report or path.name != REPORT:
            raise InputError(
                f"{clause}. Restore it from a copy, or run the same `hf-paint patch` again; if you changed it "
                f"yourself, delete {folder / MANIFEST}."
            )


def seal_again(folder: Path) -> None:
    """Write the checksums of a verified run of which a file has been written again, if it has any."""
    if (folder / MANIFEST).is_file():
        seal_run(folder)
