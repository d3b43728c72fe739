"""Training checkpoints in a folder: which of them are whole."""

import logging
import re
from collections.abc import Sequence
from pathlib import Path

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError


STATE = "trainer_state.json"
"""File that transformers writes last."""
NEEDED = ("scheduler.pt",)
"""Files that every checkpoint to resume from has, whatever wraps the model and the optimizer."""

logger = logging.getLogger(__name__)


def last_checkpoint(folder: Path, needed: Sequence[str] = (), *, warn: bool = True) -> Path | None:
    """Return the latest whole checkpoint in a folder, or None.

    Args:
        folder: Folder with `checkpoint-*` folders.
        needed: Names of other files without which the training cannot resume, e.g. the average of its weights.
        warn: Log which later checkpoints are passed over; one process is enough.
    """
    found = ((re.fullmatch(r"checkpoint-(\d+)", path.name), path) for path in folder.glob("checkpoint-*"))
    steps = {int(match[1]): path for match, path in found if match}
    for step in sorted(steps, reverse=True):
        missing = _missing(steps[step], needed)
        if missing is None:
            return steps[step]
        if warn:
            logger.warning(f"{steps[step]} is passed over because it is not whole: it has no complete {missing}.")
    return None


def _missing(checkpoint: Path, needed: Sequence[str]) -> str | None:
    """Return the first file that a checkpoint lacks, or None if it is whole."""
    missing = next((name for name in (*NEEDED, *needed) if not (checkpoint / name).exists()), None)
    return missing or (None if _is_json(checkpoint / STATE) else STATE)


def _is_json(path: Path) -> bool:
    try:
        return read_json(path) is not None
    except InputError:  # its writer was killed
        return False
