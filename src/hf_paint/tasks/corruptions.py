"""Image corruptions, which turn any task into a distribution shift (Hendrycks & Dietterich, ICLR 2019, Section 3).

An image is corrupted when it is decoded, before a model's processor resizes it. The corruption is thus a property of
the data, as with a bad camera, and is the same for all models regardless of their input size. If the shorter side of
an image is at most 32 pixels, the strengths are those of CIFAR-10-C; at 224 pixels, they are those of ImageNet-C; in
between, they are interpolated geometrically. Larger images are first shrunk to 224 pixels, the size at which
ImageNet-C corrupts images.
"""

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from hf_paint.errors import InputError, did_you_mean
from hf_paint.tasks.probes import fingerprint_code
from hf_paint.tasks.rgb import to_rgb


SMALL, LARGE = 32, 224
"""Shorter side of images in CIFAR-10-C and in ImageNet-C, in pixels."""
STRENGTHS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
"""Name -> strengths at severities 1 to 5, for small and for large images.

`noise`: standard deviation, for intensities from 0 to 1. `blur`: standard deviation in pixels. `contrast`: factor that
the contrast is multiplied by. `jpeg`: quality. `pixelate`: size of the coarse image, as a fraction of the original.
"""
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """A corruption applied to the images of a task.

    Attributes:
        name: `noise` (Gaussian), `blur` (Gaussian), `contrast`, `jpeg` or `pixelate`.
        severity: Severity, from 1 (mild) to 5.
        seed: Random seed for `noise`. The noise depends only on the seed and the pixels of the image, not on its row,
            and a higher severity scales up the same noise.

    Example:
        >>> blur = Corruption(name="blur", severity=5)
        >>> blur.strength(32), blur.strength(224)
        (1.0, 6.0)
    """

    name: str
    severity: int
    seed: int = 0

    def __post_init__(self) -> None:
        if self.name not in [*STRENGTHS]:  # a list, because a YAML value may be unhashable
            known = f"{did_you_mean(str(self.name), STRENGTHS)} Corruptions: {', '.join(STRENGTHS)}."
            raise InputError(f"Unknown corruption {self.name!r}.{known}")
        if self.severity not in SEVERITIES or type(self.severity) is not int:
            raise InputError(f"`severity` of `corruption` must be an integer from 1 to 5, got {self.severity!r}.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"`seed` of `corruption` must be a non-negative integer, got {self.seed!r}.")

    @property
    def suffix(self) -> str:
        """Suffix for the names of corrupted tasks: `noise-3`, or `noise-3-seed-1` with a seed other than 0."""
        return f"{self.name}-{self.severity}{f'-seed-{self.seed}' if self.seed else ''}"

    @property
    def identity(self) -> list[object]:
        """All that determines the corrupted pixels, except the image and the Pillow version."""
        return [self.name, self.severity, self.seed, STRENGTHS[self.name], np.__version__, fingerprint_code(self)]

    def strength(self, side: int) -> float:
        """Return the strength for images whose shorter side is `side` pixels."""
        small, large = (strengths[self.severity - 1] for strengths in STRENGTHS[self.name])
        share = min(max(math.log(side / SMALL) / math.log(LARGE / SMALL), 0.0), 1.0)
        return float(small ** (1 - share) * large**share)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the corrupted image in RGB; an image larger than those of ImageNet-C is shrunk first."""
        image = to_rgb(image)
        shrink = min(1.0, LARGE / min(image.size))
        if shrink < 1:
            image = image.resize((round(image.width * shrink), round(image.height * shrink)), Image.Resampling.BICUBIC)
        return _CORRUPT[self.name](image, self.strength(min(image.size)), self.seed)


def _noise(image: Image.Image, std: float, seed: int) -> Image.Image:
    pixels = np.asarray(image)
    digest = hashlib.sha256(np.array(pixels.shape, dtype="<i8").tobytes() + pixels.tobytes()).digest()
    noise = np.random.default_rng([seed, *digest]).standard_normal(pixels.shape, dtype=np.float32)
    return _to_image(pixels + np.float32(255 * std) * noise)


def _blur(image: Image.Image, std: float, _: int) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(std))


def _contrast(image: Image.Image, share: float, _: int) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float64)
    mean = pixels.mean(axis=(0, 1))
    return _to_image(mean + share * (pixels - mean))


def _jpeg(image: Image.Image, quality: float, _: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=round(quality))
    return Image.open(file).convert("RGB")


def _pixelate(image: Image.Image, share: float, _: int) -> Image.Image:
    width, height = (max(1, round(share * side)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX).resize(image.size, Image.Resampling.NEAREST)


def _to_image(pixels: NDArray[np.floating]) -> Image.Image:
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


_CORRUPT: dict[str, Callable[[Image.Image, float, int], Image.Image]] = {
    "noise": _noise,
    "blur": _blur,
    "contrast": _contrast,
    "jpeg": _jpeg,
    "pixelate": _pixelate,
}
