"""The seal of a run: checksums of the files that it wrote, as long as no process works in its folder."""

import logging
from collections.abc import Iterator
from pathlib import Path

from hf_paint.files import remove_any
from hf_paint.results.locks import check_idle
from hf_paint.results.run_files import DRAWN, KEPT, PER_IMAGE, RECORDS, SEALED, is_one_of
from hf_paint.weights.manifest import MANIFEST, Damage, damages, keep_whole_lines, seal


logger: logging.Logger = logging.getLogger(__name__)


def seal_run(folder: Path) -> None:
    """Write the checksums of a run that has just finished."""
    seal(folder, SEALED)


def break_seal(folder: Path) -> None:
    """Verify a run before another process works in its folder, and remove what is damaged and can be made again.

    Raises:
        InputError: If a file is damaged that cannot be made again.
    """
    for damage in [*_damages(folder)]:
        if is_one_of((*KEPT, MANIFEST), damage.name):
            raise damage.error("Restore it from a copy.")
        if damage.path.exists() or damage.name in RECORDS:
            logger.warning(f"{damage.clause}, so its damaged parts are made again.")
        if damage.name in RECORDS and damage.path.is_file():
            keep_whole_lines(damage.path)
        else:
            for lost in RECORDS if damage.name in RECORDS else [damage.name]:
                remove_any(folder / lost)
    (folder / MANIFEST).unlink(missing_ok=True)


def check_readable(folder: Path) -> None:
    """Check that no process works in a run folder, and that its files are those that were saved, before it is read.

    Raises:
        InputError: If a process works in it, or a file is damaged.
    """
    check_idle(folder)
    check_sealed(folder)


def check_sealed(folder: Path, *, is_published: bool = False) -> None:
    """Check that the files of a run are those that were saved.

    Missing per-image files only cause a warning, and whoever needs one says so. Plots and the report, which people may
    remove, only matter for a push: it publishes those that are there.

    Args:
        folder: Run folder.
        is_published: Whether the run is published.

    Raises:
        InputError: If a file is damaged, or missing and needed.
    """
    lost: list[Damage] = []
    for damage in _damages(folder):
        is_drawn, is_missing = is_one_of(DRAWN, damage.name), not damage.path.exists()
        if is_drawn and is_missing and is_published:
            logger.warning(f"{damage.clause}, so it is not published. The same `hf-paint patch` draws it again.")
        if is_missing and is_one_of(PER_IMAGE, damage.name):
            lost.append(damage)
        elif not (is_drawn and (is_missing or not is_published)):
            raise damage.error("Restore it from a copy, or run the same `hf-paint patch` again.")
    if lost:
        more = len(lost) - 1
        others = f", and so {'is 1 other' if more == 1 else f'are {more} others'}" if more else ""
        logger.warning(
            f"{lost[0].clause}{others}, so single images cannot be compared there. The same `hf-paint patch` makes "
            "them again."
        )


def _damages(folder: Path) -> Iterator[Damage]:
    """Yield what is wrong with the files that a run writes; earlier versions have sealed other files too."""
    return (damage for damage in damages(folder) if is_one_of((*SEALED, MANIFEST), damage.name))
