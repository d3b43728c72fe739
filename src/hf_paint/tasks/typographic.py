"""Typographic attacks: the name of a wrong class is written over an image (PAINT, Section 7).

As in PAINT's synthetic attacks, images are first cropped to a square of 224 pixels. The font, size, colours and
position of the word are random, and the whole word is visible. The attack is a property of the data: the word is
written when an image is decoded, before the model's processor sees it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from hf_paint.errors import InputError
from hf_paint.tasks.lettering import FONT_SIZES, draw_lettering, load_font, shipped_fonts
from hf_paint.tasks.probes import fingerprint_code
from hf_paint.tasks.rgb import to_rgb


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypographicAttack:
    """A typographic attack on the images of a task.

    The word and its appearance depend only on the seed, the split, the row and, in training, the epoch.

    Attributes:
        seed: Random seed for the words and their appearance.
        probability: Probability that a training image is attacked, drawn again in each epoch. Validation and test
            images are always attacked.
        fonts: Paths to font files, one of which is chosen for each image. The default is three fonts that matplotlib
            ships.
        image_size: Side length in pixels of the square that images are resized and cropped to before the attack.
        font_sizes: Minimum and maximum font size in pixels, for a 224-pixel image.

    Example:
        >>> attack = TypographicAttack(seed=1)
        >>> image = attack(Image.new("RGB", (320, 240)), 0, ["dog", "cat", "polar bear"], split="test", row=7)
        >>> image.size
        (224, 224)
    """

    seed: int = 0
    probability: float = 1.0
    fonts: tuple[str, ...] = ()
    image_size: int = 224
    font_sizes: tuple[float, float] = FONT_SIZES

    def __post_init__(self) -> None:
        if type(self.seed) is not int or self.seed < 0:
            raise InputError(f"`seed` of `attack` must be a non-negative integer, got {self.seed!r}.")
        if type(self.probability) not in (int, float) or not 0 <= self.probability <= 1:
            raise InputError(f"`probability` of `attack` must be a number from 0 to 1, got {self.probability!r}.")
        if type(self.image_size) is not int or self.image_size < 32:
            raise InputError(f"`image_size` of `attack` must be an integer of at least 32, got {self.image_size!r}.")
        if not isinstance(self.fonts, (list, tuple)):
            raise InputError(f"`fonts` of `attack` must be a list of paths, got {self.fonts!r}.")
        object.__setattr__(self, "fonts", tuple(str(path) for path in self.fonts))
        object.__setattr__(self, "font_sizes", _read_sizes(self.font_sizes))
        for path in self.fonts:
            load_font(path, FONT_SIZES[0])

    @property
    def identity(self) -> list[object]:
        """All that determines the attacked pixels, except the image, row, class names and Pillow version."""
        fonts = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.font_files]
        code = fingerprint_code(lambda image: self(image, 0, ["one", "two"], split="test", row=0))
        versions = [np.__version__, features.version("freetype2"), code]
        return [self.seed, self.probability, fonts, self.image_size, self.font_sizes, *versions]

    @property
    def font_files(self) -> tuple[str, ...]:
        """Paths to the fonts; by default, the fonts that matplotlib ships."""
        return self.fonts or shipped_fonts()

    def __call__(
        self, image: Image.Image, label: int, class_names: Sequence[str], *, split: str, row: int, epoch: int = 0
    ) -> Image.Image:
        """Return the attacked image, an RGB square of `image_size` pixels.

        Args:
            image: Image to attack.
            label: Class index of the image.
            class_names: Names of all classes.
            split: `train`, `validation` or `test`.
            row: Row of the image in the split.
            epoch: Training epoch.
        """
        size = (self.image_size, self.image_size)
        square = ImageOps.fit(to_rgb(image), size, Image.Resampling.BICUBIC)
        generator = self._generator(split, epoch, row)
        word = class_names[_wrong_class(label, class_names, generator)]
        if split != "train" or generator.random() < self.probability:
            sizes = self.font_sizes
            draw_lettering(word, self.image_size, self.font_files, generator, font_sizes=sizes).write_on(square)
        return square

    def written(self, labels: NDArray[np.int64], class_names: Sequence[str], split: str) -> NDArray[np.int64]:
        """Return the class index of the word written on each image of a split in epoch 0; labels are (num_images,)."""
        words = (
            _wrong_class(int(label), class_names, self._generator(split, 0, row)) for row, label in enumerate(labels)
        )
        return np.fromiter(words, dtype=np.int64, count=len(labels))

    def _generator(self, split: str, epoch: int, row: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, SPLITS.index(split), epoch, row))


def _read_sizes(sizes: Sequence[float]) -> tuple[float, float]:
    """Check the minimum and maximum font size, a list in YAML, and return them as a tuple."""
    is_pair = isinstance(sizes, (list, tuple)) and len(sizes) == 2 and all(type(s) in (int, float) for s in sizes)
    if not is_pair or not 1 <= sizes[0] <= sizes[1]:
        raise InputError(f"`font_sizes` of `attack` must be [MIN, MAX], for instance [20, 40]; got {sizes!r}.")
    return sizes[0], sizes[1]


def _wrong_class(label: int, class_names: Sequence[str], generator: np.random.Generator) -> int:
    """Draw a class with a different name; two classes can have the same name, like `missile` in ImageNet."""
    others = [index for index, name in enumerate(class_names) if name != class_names[label]]
    if not others:
        raise InputError(
            "`attack` writes the name of a wrong class, so the task needs at least two classes with different names."
        )
    return others[int(generator.integers(len(others)))]
