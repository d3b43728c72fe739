"""Convert images and arrays of any depth to 8-bit RGB; if it is unknown which value is white, refuse them."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_paint.errors import InputError


Values = NDArray[np.generic]
FULL_16_BIT = 65535
BLOCK = 1 << 22
"""Values that are scaled at a time, because float64 takes eight times the memory of the result."""
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262
"""TIFF tags. Pillow neither scales 12-bit values nor inverts deep images in which white is zero."""


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has one channel of more than 8 bits."""
    return image.mode.startswith(("I", "F"))


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image to 8-bit RGB.

    Images with 8 bits per channel are converted by Pillow, as in `load_image` of transformers, through which its
    pipelines read them: transparency is dropped, also that of a palette. Image processors that are given an image
    with transparency put it on white, but only if it was not converted before. Deep images have one channel, and
    `levels` scales them.

    Raises:
        InputError: If it is unclear how to scale the image.

    Example:
        >>> to_rgb(Image.fromarray(np.array([[0, 257, 65535]], dtype=np.uint16))).getpixel((1, 0))
        (1, 1, 1)
    """
    if image.mode == "RGB":
        image.load()
        return image
    if not is_deep(image):
        return image.convert("RGB")
    values, tags = np.asarray(image), getattr(image, "tag_v2", {})
    if image.format == "PPM":  # Pillow scales PGM files to 16 bits, but opens them as 32 bits
        values = values.astype(np.uint16)
    full = 4095 if tags.get(BITS_PER_SAMPLE) == (12,) else FULL_16_BIT
    scaled = levels(values, full=full)
    return Image.fromarray(255 - scaled if tags.get(PHOTOMETRIC) == 0 else scaled).convert("RGB")


def array_to_rgb(values: Values) -> Image.Image:
    """Convert an array to an 8-bit RGB image, by the rules of `levels`.

    Args:
        values: Array of shape (height, width) or (height, width, channels), with 1 to 4 channels as in Pillow: grey,
            grey and alpha, RGB, or RGB and alpha.

    Raises:
        InputError: If the array has another shape, or it is unclear how to scale it.
    """
    height, width, *channels = values.shape if values.ndim in (2, 3) else (0, 0)
    if not height or not width or (channels and channels[0] not in (1, 2, 3, 4)):
        raise InputError(
            "An image must be an array of shape (height, width) or (height, width, channels) with 1 to 4 channels, "
            f"got {values.shape}."
        )
    scaled = levels(values)
    return Image.fromarray(scaled[..., 0] if channels == [1] else scaled).convert("RGB")


def levels(values: Values, *, full: int = FULL_16_BIT) -> NDArray[np.uint8]:
    """Scale values to 8 bits by the range of their type, never by their own minimum and maximum.

    | type | range | 8 bits |
    | --- | --- | --- |
    | boolean | false, true | 0, 255 |
    | 8-bit | 0 to 255 | unchanged |
    | unsigned 16-bit | 0 to `full` | rounded 255 * value / full |
    | float | 0 to 1 | rounded 255 * value |
    | float, other integers | 0 to 255 | rounded down, as in Pillow and transformers |

    All other values are refused: a 32-bit image may hold 12, 16 or more bits. So are 16-bit images without a value
    above 255, unless they are black, because they may hold 8 bits.

    Raises:
        InputError: If the range is unknown.
    """
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    if values.dtype == np.bool_:
        return values.astype(np.uint8) * np.uint8(255)
    low, high = float(values.min()), float(values.max())
    scale = 0.0
    if values.dtype in (np.dtype("<u2"), np.dtype(">u2")):
        scale = 0.0 if 0 < high <= 255 else 255 / full  # no ties: `full` is odd
    elif values.dtype.kind == "f" and low >= 0 and high <= 1:
        scale = 255.0
    elif low >= 0 and high <= 255:
        return values.astype(np.uint8)
    if scale:
        return np.concatenate([_scaled(rows, scale) for rows in np.array_split(values, -(-values.size // BLOCK))])
    raise InputError(
        f"The image has {values.dtype.name} values from {low:g} to {high:g}, so it is unclear which value is white. "
        "Store 8-bit values, 16-bit values up to 65535, or floats from 0 to 1."
    )


def _scaled(values: Values, scale: float) -> NDArray[np.uint8]:
    return np.rint(values.astype(np.float64) * scale).astype(np.uint8)
