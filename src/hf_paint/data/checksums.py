"""Verify the checksums of a cache entry, once for all processes that run at the same time on a node."""

import json
import math
import platform
import time
from contextlib import suppress
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.files import write_json
from hf_paint.fingerprints import file_checksum


FILES = ("pixels.bin", "labels.npy")
META, VERIFIED = "meta.json", "verified.json"
STARTED = time.time()
"""When this process started."""


def is_whole(folder: Path) -> bool:
    """Return whether an entry, which the caller must have locked, has the sizes and checksums in its `meta.json`.

    Files that another process on this node has verified since this process started are not read again. In a run of
    several processes, the first to open an entry thus verifies it for all.
    """
    try:
        meta = json.loads((folder / META).read_text())
        if (folder / FILES[0]).stat().st_size != math.prod(meta["shape"]):
            return False
        if _is_verified(folder, meta["crc32"]):
            return True
        if any(file_checksum(folder / name) != meta["crc32"][name] for name in FILES):
            return False
    except (OSError, ValueError, KeyError, TypeError):  # the entry or its meta.json is missing or unreadable
        return False
    with suppress(OSError):  # a read-only cache
        write_json(folder / VERIFIED, {"time": time.time(), **_state(folder, meta["crc32"])})
    return True


def _is_verified(folder: Path, crc32: Json) -> bool:
    """Return whether a process on this node has verified these files since this process started."""
    try:
        verified = json.loads((folder / VERIFIED).read_text())
        return bool(verified.pop("time") >= STARTED) and verified == _state(folder, crc32)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _state(folder: Path, crc32: Json) -> Json:
    """Return what tells one state of the files from another without reading them."""
    statuses = {name: (folder / name).stat() for name in FILES}
    files = {name: [status.st_ino, status.st_size, status.st_mtime_ns] for name, status in statuses.items()}
    return {"node": platform.node(), "crc32": crc32, "files": files}
