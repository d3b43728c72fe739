"""Fingerprints: short hashes that identify weights, heads and data in caches and records, and checksums of files."""

import functools
import hashlib
import json
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from torch import Tensor

LENGTH = 16
"""Number of hexadecimal digits in a fingerprint (64 bits)."""


def fingerprint_weights(weights: Mapping[str, "Tensor"]) -> str:
    """Return a fingerprint of the names, dtypes, shapes and bytes of tensors, regardless of order and device.

    Example:
        >>> fingerprint_weights({"w": torch.zeros(2)}) == fingerprint_weights({"w": torch.zeros(3)})
        False
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:LENGTH]


def fingerprint_values(*values: object) -> str:
    """Return a fingerprint of values that can be serialised as JSON."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:LENGTH]


def fingerprint_interpolation(theta_0: str, theta_1: str, alpha: float) -> str:
    """Return the fingerprint of theta_alpha, given the fingerprints of theta_0 and theta_1."""
    if alpha in (0, 1):
        return theta_1 if alpha else theta_0
    return fingerprint_values(theta_0, theta_1, float(alpha))


def fingerprint_combination(theta_0: str, thetas: Mapping[str, str], alphas: Mapping[str, float]) -> str:
    """Return the fingerprint of a combination, given those of its models; with one model, that of an interpolation."""
    parts = [(theta, float(alphas[model])) for model, theta in thetas.items() if alphas[model]]
    if len(parts) > 1:
        return fingerprint_values(theta_0, parts)
    return fingerprint_interpolation(theta_0, *parts[0]) if parts else theta_0


def file_checksum(path: Path) -> int:
    """Return the CRC-32 checksum of a file; a file is only read again by this process if it has been modified.

    One core checks 4 GB/s from the page cache. 50 000 images of 224 pixels (7.5 GB) take 2 s, compared with a minute
    to decode them on two cores. On a cold cache, reading from disk takes longest, but whoever reads the file next then
    finds the pages in memory.
    """
    status = path.stat()
    return _read_checksum(path, status.st_ino, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=2**17)  # more files than a run with 1001 alphas and 50 tasks has
def _read_checksum(path: Path, inode: int, size: int, modified_ns: int) -> int:
    crc32 = 0
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            crc32 = zlib.crc32(block, crc32)
    return crc32
