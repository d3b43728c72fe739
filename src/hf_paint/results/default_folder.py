"""The run folder of a run that names none: `runs/<model>-<tasks>`."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path


RUNS = Path("runs")
LONGEST = 80
"""Longest folder name; a longer one is cut and ends in a digest, so that different runs keep different folders."""


def default_folder(model: str | Path, tasks: Sequence[str]) -> Path:
    """Return the folder of a run that names none: `runs/<model>-<tasks>`, below the current folder.

    Args:
        model: Hub repository id or folder of the model, of which the last part is used; empty for one without a name.
        tasks: Names of the patching tasks.

    Example:
        >>> default_folder("openai/clip-vit-base-patch32", ["textures"]).as_posix()
        'runs/clip-vit-base-patch32-textures'
    """
    folder = Path(model).expanduser()
    name = folder.resolve().name if folder.is_dir() else str(model).partition("@")[0].rpartition("/")[2]
    parts = [name if str(model) else "model", *tasks]
    whole = re.sub(r"[^\w.=+-]+", "-", "-".join(parts)).strip("-.")
    if len(whole) > LONGEST:
        digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
        whole = f"{whole[: LONGEST - 9].rstrip('-.')}-{digest}"
    return RUNS / whole
