"""Training checkpoints in a folder: which of them are whole, and which may go."""

import json
import logging
import re
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from hf_paint.errors import InputError
from hf_paint.temporary import remove_leftovers
from hf_paint.weights import manifest
from hf_paint.weights.headers import read_weight_file


STATE = "trainer_state.json"
"""File that transformers writes last."""
NEEDED = ("scheduler.pt",)
"""Files that every checkpoint to resume from has, whatever wraps the model and the optimizer."""
ARCHIVES = (".pt", ".pth", ".bin")
"""Endings of the files of torch, which are zip archives and hold a checksum of each part."""

logger: logging.Logger = logging.getLogger(__name__)


def last_checkpoint(
    folder: Path, needed: Sequence[str] = (), *, best: bool = False, warn: bool = True, remove: bool = False
) -> Path | None:
    """Return the latest whole checkpoint in a folder, or None.

    A checkpoint is compared with its manifest. One without a manifest, whose writer was killed or an earlier version,
    is checked as far as the formats of its files allow.

    Args:
        folder: Folder with `checkpoint-*` folders.
        needed: Names of other files without which the training cannot resume, e.g. the average of its weights.
        best: Whether the training ends with the best of its checkpoints, so that this one must be whole too.
        warn: Log which later checkpoints are passed over; one process is enough.
        remove: Remove those of them that are damaged, and complete the one that is returned. The others stay: they may
            have been saved for another purpose.
    """
    for checkpoint in reversed(_by_step(folder)):
        damage = _damage(checkpoint)
        missing = [name for name in (*NEEDED, *needed) if not (checkpoint / name).exists()]
        if damage is None and best and not _has_best(checkpoint):
            missing.append("whole best checkpoint")
        if damage is None and not missing:
            if remove and not (checkpoint / manifest.MANIFEST).exists():  # its writer was killed
                remove_leftovers(checkpoint)
                complete(checkpoint)
            return checkpoint
        if warn:
            fate = "is removed" if remove and damage else "is passed over"
            logger.warning(f"{checkpoint} {fate} because it is not whole: {damage or f'it has no {missing[0]}'}.")
        if remove and damage:
            shutil.rmtree(checkpoint)
    return None


def best_of(checkpoint: Path) -> Path | None:
    """Return the best checkpoint so far, by the state of a whole one, or None if there is none yet.

    It lies beside this one, also if their folder has been moved or copied since.
    """
    best = json.loads((checkpoint / STATE).read_bytes()).get("best_model_checkpoint")
    if best is None:
        return None
    beside = checkpoint.parent / Path(best).name
    return beside if beside.is_dir() else Path(best)


def complete(checkpoint: Path) -> None:
    """Write the manifest of a checkpoint that is complete."""
    manifest.seal(checkpoint)


def remove_oldest(folder: Path, limit: int | None, *, keep: Collection[Path]) -> None:
    """Remove the checkpoints of the earliest steps, whenever they were written, until at most `limit` are left.

    Args:
        folder: Folder with `checkpoint-*` folders.
        limit: Number of checkpoints; None for any number.
        keep: Checkpoints that stay and count.
    """
    names = {path.name for path in keep}
    others = [path for path in _by_step(folder) if path.name not in names]
    if limit is not None:
        for path in others[: max(0, len(others) + len(names) - limit)]:
            shutil.rmtree(path, ignore_errors=True)


def _by_step(folder: Path) -> list[Path]:
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*"))
    return [path for _, path in sorted((int(match[1]), path) for match, path in found if match and path.is_dir())]


def _has_best(checkpoint: Path) -> bool:
    """Return whether the best checkpoint so far, by the state of a whole one, is whole; there may be none yet."""
    best = best_of(checkpoint)
    return best is None or (best.is_dir() and _damage(best) is None)


def _damage(checkpoint: Path) -> str | None:
    """Return what is wrong with the files of a checkpoint, or None."""
    if (checkpoint / manifest.MANIFEST).exists():
        return next((damage.clause for damage in manifest.damages(checkpoint)), None)
    if not (checkpoint / STATE).exists():
        return f"it has no {STATE}, which is written last"
    files = (path for path in sorted(checkpoint.rglob("*")) if path.is_file())
    return next((f"{path.name} is damaged" for path in files if not _is_readable(path)), None)


def _is_readable(path: Path) -> bool:
    """Return whether a file is whole as far as its format tells."""
    try:
        if path.suffix == ".json":
            return isinstance(json.loads(path.read_bytes()), dict)  # of any size: some tokenizers have 34 MB
        if path.suffix in ARCHIVES:
            with ZipFile(path) as archive:
                return archive.testzip() is None
        if path.suffix == ".safetensors":
            return bool(read_weight_file(path).tensors)
    except (InputError, BadZipFile, OSError, ValueError, EOFError, NotImplementedError, RecursionError):
        return False
    return True
