"""Lettering: a word in a random font, size, colour and position, written over an image."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from hf_paint.errors import InputError


FONTS = ("DejaVuSans", "DejaVuSansMono", "STIXGeneral")
"""Fonts that matplotlib ships: sans serif, monospaced and similar to Times."""
FONT_SIZES = (20, 40)
"""Smallest and largest size, in pixels of an image of 224; a word that does not fit gets smaller letters."""
COLOURS = ("black", "blue", "cyan", "green", "magenta", "red", "white", "yellow")


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
    """Draw the look of a word at random, with the whole word inside a square image.

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
    try:  # every build of Pillow has the basic layout, so the pixels are the same everywhere
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise InputError(
            f"The font {path} cannot be read: {error}. `fonts` of `attack` must be paths of font files (.ttf or .otf)."
        ) from error


@cache
def shipped_fonts() -> tuple[str, ...]:
    """Return the paths of the fonts that matplotlib ships."""
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
