"""Typographic attacks: the name of a wrong class is written over an image (PAINT, Section 7).

As in PAINT's synthetic attacks, an image becomes a square of 224 pixels; the font, the size, the colours and the
position of the word are random, and all of the word is visible. The attack is a property of the data: the word is
written when an image is decoded, before the processor of a model sees it.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps, features

from hf_paint.errors import InputError


FONTS = ("DejaVuSans", "DejaVuSansMono", "STIXGeneral")
"""Fonts that matplotlib ships: sans serif, monospaced and similar to Times."""
FONT_SIZES = (20, 40)
"""Smallest and largest size, in pixels of an image of 224; a word that does not fit gets smaller letters."""
COLOURS = ("black", "blue", "cyan", "green", "magenta", "red", "white", "yellow")
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
        image_size: The side in pixels of the square to which an image is first resized and cropped.
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
            raise InputError(f"`seed` of `attack` must be a whole number from 0, got {self.seed!r}.")
        if type(self.probability) not in (int, float) or not 0 <= self.probability <= 1:
            raise InputError(f"`probability` of `attack` must be a number from 0 to 1, got {self.probability!r}.")
        if type(self.image_size) is not int or self.image_size < 32:
            raise InputError(f"`image_size` of `attack` must be a whole number from 32, got {self.image_size!r}.")
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
        """The paths of the fonts, by default of the shipped ones."""
        return self.fonts or _shipped_fonts()

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Lettering:
    """A word and its look.

    Attributes:
        text: The word, on one line or two.
        font: The path of the font file.
        size: The size of the font in pixels.
        colour: The colour of the letters.
        outline: The colour of their outline.
        outline_width: The width of the outline in pixels.
        position: Left and top of the word with its outline, in pixels.
    """

    text: str
    font: str
    size: int
    colour: str
    outline: str
    outline_width: int
    position: tuple[int, int]

    def write_on(self, image: Image.Image) -> None:
        """Write the word over an image, in place."""
        letters, outline = _masks(self.text, self.font, self.size, self.outline_width)
        image.paste(self.outline, self.position, outline)
        image.paste(self.colour, self.position, letters)


def draw_lettering(
    word: str,
    image_size: int,
    fonts: Sequence[str],
    generator: np.random.Generator,
    *,
    font_sizes: tuple[float, float] = FONT_SIZES,
) -> Lettering:
    """Draw the look of a word at random, so that all of it fits into a square image.

    Args:
        word: The word.
        image_size: The side of the image in pixels.
        fonts: Paths of font files.
        generator: The source of the random numbers.
        font_sizes: The smallest and the largest size of the letters, in pixels of an image of 224.

    Raises:
        InputError: If the word is too long even for the smallest letters.
    """
    text = break_lines(word)
    font = fonts[int(generator.integers(len(fonts)))]
    size = int(generator.uniform(*font_sizes) * image_size / 224)
    colour, outline = generator.choice(COLOURS, 2, replace=False).tolist()
    outline_width = max(1, round(image_size / 224))
    while size > 0:
        left, top, right, bottom = _box(text, font, size)
        width, height = right - left + 2 * outline_width, bottom - top + 2 * outline_width
        if max(width, height) <= image_size:
            x, y = generator.integers((image_size - width + 1, image_size - height + 1)).tolist()
            return Lettering(
                text=text,
                font=font,
                size=size,
                colour=colour,
                outline=outline,
                outline_width=outline_width,
                position=(x, y),
            )
        size = min(size - 1, size * image_size // max(width, height))
    raise InputError(
        f"The class name {word[:40]!r}... is too long to be written over {image_size} pixels. Shorten it in "
        "`class_names`, or raise `image_size` of `attack`."
    )


def break_lines(word: str) -> str:
    r"""Return a name with a line break after its first word, or after its second if it has more than three.

    Example:
        >>> break_lines("sports car"), break_lines("a very small dog")
        ('sports\ncar', 'a very\nsmall dog')
    """
    words = word.split()
    first = 1 if len(words) <= 3 else 2
    return "\n".join(" ".join(part) for part in (words[:first], words[first:]) if part)


@cache
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font of a size in pixels; each pair is loaded once.

    Raises:
        InputError: If the file cannot be read as a font.
    """
    try:  # every build of Pillow has the basic layout, so that the pixels are the same everywhere
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise InputError(
            f"The font {path} cannot be read: {error}. `fonts` of `attack` must be paths of font files (.ttf or .otf)."
        ) from error


@cache
def _shipped_fonts() -> tuple[str, ...]:
    import matplotlib

    return tuple(str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")) for name in FONTS)


@lru_cache(maxsize=1024)
def _masks(text: str, font: str, size: int, edge: int) -> tuple[Image.Image, Image.Image]:
    """Return the masks of the letters, in a margin of `edge` pixels, and of the letters with their outline."""
    left, top, right, bottom = _box(text, font, size)
    letters = Image.new("L", (right - left + 2 * edge, bottom - top + 2 * edge))
    position = (edge - left, edge - top)
    ImageDraw.Draw(letters).multiline_text(position, text, 255, load_font(font, size), align="center")
    # dilating a small mask takes a tenth of the time of stroking the letters
    return letters, letters.filter(ImageFilter.MaxFilter(2 * edge + 1))


@lru_cache(maxsize=1024)
def _box(text: str, font: str, size: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of letters that are drawn at (0, 0), in pixels."""
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = ruler.multiline_textbbox((0, 0), text, load_font(font, size), align="center")
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)


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
