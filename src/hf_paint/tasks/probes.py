"""Small images whose pixels tell versions of the code apart, so that no cache is read that other code has filled.

A version number would have to be raised by hand, and would miss changes in the libraries.
"""

import hashlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image


def fingerprint_code(convert: Callable[[Image.Image], Image.Image]) -> str:
    """Return a fingerprint of what a function makes of a few images: in colour, transparent, deep, and narrow.

    Example:
        >>> fingerprint_code(Image.Image.copy) == fingerprint_code(lambda image: image.rotate(90))
        False
    """
    digest = hashlib.sha256()
    for image in _probes():
        digest.update(convert(image).tobytes())
    return digest.hexdigest()


@cache
def _probes() -> tuple[Image.Image, ...]:
    values = np.arange(48 * 64 * 3, dtype=np.uint32) * 40503 % 65536  # spread over all levels
    deep = values.astype(np.uint16).reshape(48, 64, 3)
    drawn = Image.fromarray((deep >> 8).astype(np.uint8))
    palette = drawn.convert("P")
    palette.info["transparency"] = 3
    floats = Image.fromarray(deep[..., 0] / np.float32(65535))
    return drawn, drawn.convert("LA"), palette, Image.fromarray(deep[..., 0]), floats, drawn.resize((2, 500))
