"""The default name of a run folder."""

import re
from collections.abc import Sequence
from hashlib import sha256

from hf_paint.files import expand


LONGEST = 80
"""Maximum number of characters; file systems allow 255 bytes, and a character takes up to four."""


def default_run_folder(model: str, tasks: Sequence[str], strategy: str = "single") -> str:
    """Return `runs/<model>-<tasks>`, followed by the strategy unless it is `single`.

    Other characters than letters, digits, dots, dashes and underscores become dashes. A long name is cut and ends with
    a hash of the whole, so that different runs keep different folders.

    Args:
        model: Hub repository id or folder.
        tasks: Names of the patching tasks.
        strategy: Patching strategy.

    Example:
        >>> default_run_folder("openai/clip-vit-base-patch32", ["textures"])
        'runs/clip-vit-base-patch32-textures'
    """
    folder = expand(model)
    last = folder.resolve().name if folder.is_dir() else model.rstrip("/").rpartition("/")[2]
    parts = [last, *tasks, *([] if strategy == "single" else [strategy])]
    name = re.sub(r"[^\w.-]+", "-", "-".join(parts)).strip("-.") or "run"
    if len(name) > LONGEST:
        digest = sha256(name.encode()).hexdigest()[:8]
        name = f"{name[: LONGEST - 9].rstrip('-.')}-{digest}"
    return f"runs/{name}"
