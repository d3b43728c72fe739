"""Typographic attacks: the name of a wrong class is written over an image (PAINT, Section 7).

As in PAINT's synthetic attacks, an image becomes a square of 224 pixels; the font, the size, the colours and the
position of the word are random, and all of the word is visible. The attack is a property of the data: the word is
written when an image is decoded, before the processor of a model sees it.
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


SPLITS = ("train", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class TypographicAttack:
    """A typographic attack on the images of a task.

    The word and its look depend only on the seed, the split, the row and, in training, the epoch.

    Attributes:
        seed: The seed of the words and of their look.
        probability: The probability that a training image is attacked, drawn anew in each epoch; images of other
            splits are always attacked.
        fonts: Paths of font files, one of which is drawn for each image; by default three that matplotlib ships.
        image_size: The side in pixels of the square that an image is first resized and cropped to.
        font_sizes: The smallest and the largest size of the letters, in pixels of an image of 224.

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
            raise InputError(f"`seed` of `attack` must be a whole number of at least 0, got {self.seed!r}.")
        if type(self.probability) not in (int, float) or not 0 <= self.probability <= 1:
            raise InputError(f"`probability` of `attack` must be a number from 0 to 1, got {self.probability!r}.")
        if type(self.image_size) is not int or self.image_size < 32:
            raise InputError(
                f"`image_size` of `attack` must be a whole number of 32 or more, got {self.image_size!r}."
            )
        if not isinstance(self.fonts, (list, tuple)):
            raise InputError(f"`fonts` of `attack` must be a list of paths, got {self.fonts!r}.")
        object.__setattr__(self, "fonts", tuple(str(path) for path in self.fonts))
        object.__setattr__(self, "font_sizes", _read_sizes(self.font_sizes))
        for path in self.fonts:
            load_font(path, FONT_SIZES[0])

    @property
    def identity(self) -> list[object]:
        """Everything that determines the attacked pixels, except image, row, class names and the version of Pillow."""
        fonts = [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in self.font_files]
        versions = [np.__version__, features.version("freetype2")]
        return [self.seed, self.probability, fonts, self.image_size, self.font_sizes, *versions]

    @property
    def font_files(self) -> tuple[str, ...]:
        """The paths of the fonts; by default, the shipped fonts."""
        return self.fonts or shipped_fonts()

    def __call__(
        self, image: Image.Image, label: int, class_names: Sequence[str], *, split: str, row: int, epoch: int = 0
    ) -> Image.Image:
        """Return the attacked image, RGB and square, of `image_size` pixels.

        Args:
            image: The image.
            label: The class index of the image.
            class_names: The names of all classes.
            split: `train`, `validation` or `test`.
            row: The row of the image in the split.
            epoch: The epoch of a training image.
        """
        size = (self.image_size, self.image_size)
        square = ImageOps.fit(image.convert("RGB"), size, Image.Resampling.BICUBIC)
        generator = self._generator(split, epoch, row)
        word = class_names[_wrong_class(label, class_names, generator)]
        if split != "train" or generator.random() < self.probability:
            sizes = self.font_sizes
            draw_lettering(word, self.image_size, self.font_files, generator, font_sizes=sizes).write_on(square)
        return square

    def written(self, labels: NDArray[np.int64], class_names: Sequence[str], split: str) -> NDArray[np.int64]:
        """Return the class index of the word on each image of a split in epoch 0, for labels (num_images,)."""
        words = (
            _wrong_class(int(label), class_names, self._generator(split, 0, row)) for row, label in enumerate(labels)
        )
        return np.fromiter(words, dtype=np.int64, count=len(labels))

    def _generator(self, split: str, epoch: int, row: int) -> np.random.Generator:
        return np.random.default_rng((self.seed, SPLITS.index(split), epoch, row))


def _read_sizes(sizes: Sequence[float]) -> tuple[float, float]:
    """Return the smallest and the largest font size as a tuple; YAML has a list."""
    is_pair = isinstance(sizes, (list, tuple)) and len(sizes) == 2 and all(type(s) in (int, float) for s in sizes)
    if not is_pair or not 1 <= sizes[0] <= sizes[1]:
        raise InputError(f"`font_sizes` of `attack` must be two numbers in order, such as [20, 40]; got {sizes!r}.")
    return sizes[0], sizes[1]


def _wrong_class(label: int, class_names: Sequence[str], generator: np.random.Generator) -> int:
    """Draw a class with another name; two classes may share a name, such as `missile` of ImageNet."""
    others = [index for index, name in enumerate(class_names) if name != class_names[label]]
    if not others:
        raise InputError(
            "`attack` writes the name of a wrong class, so the task needs at least two classes with different names."
        )
    return others[int(generator.integers(len(others)))]
