"""Corruptions of images, as distribution shifts of any task (Hendrycks & Dietterich, ICLR 2019, Section 3).

An image is corrupted when it is decoded, before a model's processor resizes it: the corruption is a property of the
data, as with a bad camera, and the same for models of every input size. The strengths are those of CIFAR-10-C for
images whose shorter side has at most 32 pixels and those of ImageNet-C at 224 pixels. In between they are interpolated
geometrically; larger images are first shrunk to 224 pixels, the size at which ImageNet-C corrupts them.
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


SMALL, LARGE = 32, 224
"""Shorter sides in pixels, of CIFAR-10-C and of ImageNet-C."""
STRENGTHS = {
    "noise": ((0.04, 0.06, 0.08, 0.09, 0.10), (0.08, 0.12, 0.18, 0.26, 0.38)),
    "blur": ((0.4, 0.6, 0.7, 0.8, 1.0), (1.0, 2.0, 3.0, 4.0, 6.0)),
    "contrast": ((0.75, 0.5, 0.4, 0.3, 0.15), (0.4, 0.3, 0.2, 0.1, 0.05)),
    "jpeg": ((80, 65, 58, 50, 40), (25, 18, 15, 10, 7)),
    "pixelate": ((0.95, 0.9, 0.85, 0.75, 0.65), (0.6, 0.5, 0.4, 0.3, 0.25)),
}
"""Name -> strengths of severities 1 to 5, for small and for large images.

`noise`: standard deviation, of intensities from 0 to 1. `blur`: standard deviation in pixels. `contrast`: factor of
the contrast. `jpeg`: quality. `pixelate`: side of the coarse image, as a share of the original.
"""
SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """A corruption of the images of a task.

    Attributes:
        name: `noise` and `blur` (both Gaussian), `contrast`, `jpeg` or `pixelate`.
        severity: From 1 (mild) to 5.
        seed: The seed of the noise, which depends only on the seed and the image, not on its row; all severities scale
            the same noise.

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
            raise InputError(f"`severity` of `corruption` must be a whole number from 1 to 5, got {self.severity!r}.")
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"`seed` of `corruption` must be a whole number of at least 0, got {self.seed!r}.")

    @property
    def suffix(self) -> str:
        """The end of the names of corrupted tasks: `noise-3`, followed by a seed other than 0."""
        return f"{self.name}-{self.severity}{f'-seed-{self.seed}' if self.seed else ''}"

    @property
    def identity(self) -> list[object]:
        """Everything that determines the corrupted pixels, except the image and the version of Pillow."""
        return [self.name, self.severity, self.seed, STRENGTHS[self.name], np.__version__]

    def strength(self, side: int) -> float:
        """Return the strength for images with a shorter side of `side` pixels."""
        small, large = (strengths[self.severity - 1] for strengths in STRENGTHS[self.name])
        share = min(max(math.log(side / SMALL) / math.log(LARGE / SMALL), 0.0), 1.0)
        return float(small ** (1 - share) * large**share)

    def __call__(self, image: Image.Image) -> Image.Image:
        """Return the corrupted RGB image; an image larger than ImageNet-C's is shrunk first."""
        image = image.convert("RGB")
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
