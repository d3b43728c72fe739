"""Lettering: words written over images in a random font, size, colour and position."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from hf_paint.errors import InputError


FONTS = ("DejaVuSans", "DejaVuSansMono", "STIXGeneral")
"""Fonts shipped with matplotlib: a sans serif, a monospaced and a Times-like one."""
FONT_SIZES = (20, 40)
"""Minimum and maximum font size in pixels, for a 224-pixel image; a word that does not fit is made smaller."""
COLOURS = ("black", "blue", "cyan", "green", "magenta", "red", "white", "yellow")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lettering:
    """A word and how it is drawn.

    Attributes:
        text: The word, on one or two lines.
        font: Path to the font file.
        size: Font size in pixels.
        colour: Colour of the letters.
        outline: Colour of the outline.
        outline_width: Width of the outline in pixels.
        position: Left and top edge of the outlined word, in pixels.
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
    """Choose a random font, size, colour and position for a word, such that all of it fits into a square image.

    Args:
        word: The word.
        image_size: Side length of the image in pixels.
        fonts: Paths to font files.
        generator: Random number generator.
        font_sizes: Minimum and maximum font size in pixels, for a 224-pixel image.

    Raises:
        InputError: If the word is too long to fit at any size.
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
        f"The class name {word[:40]!r}... is too long to be written over a {image_size}-pixel image. Shorten it in "
        "`class_names`, or raise `image_size` of `attack`."
    )


def break_lines(word: str) -> str:
    r"""Break a name into two lines after its first word, or after the second if it has more than three words.

    Example:
        >>> break_lines("sports car"), break_lines("a very small dog")
        ('sports\ncar', 'a very\nsmall dog')
    """
    words = word.split()
    first = 1 if len(words) <= 3 else 2
    return "\n".join(" ".join(part) for part in (words[:first], words[first:]) if part)


@cache
def load_font(path: str, size: int) -> ImageFont.FreeTypeFont:
    """Load a font at a size in pixels; fonts are cached.

    Raises:
        InputError: If the file cannot be read as a font.
    """
    try:  # basic layout is part of every Pillow build, so the pixels are the same everywhere
        return ImageFont.truetype(path, size, layout_engine=ImageFont.Layout.BASIC)
    except OSError as error:
        raise InputError(
            f"The font {path} cannot be read: {error}. `fonts` of `attack` must be paths to .ttf or .otf files."
        ) from error


@cache
def shipped_fonts() -> tuple[str, ...]:
    """Return the paths to the default fonts, which are shipped with matplotlib."""
    return tuple(map(shipped_font, FONTS))


@cache
def shipped_font(name: str) -> str:
    """Return the path to a font that is shipped with matplotlib, e.g. `DejaVuSans`."""
    import matplotlib

    return str(Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf"))


@lru_cache(maxsize=1024)
def _masks(text: str, font: str, size: int, edge: int) -> tuple[Image.Image, Image.Image]:
    """Return one mask for the letters, with a margin of `edge` pixels, and one for the letters and their outline."""
    left, top, right, bottom = _box(text, font, size)
    letters = Image.new("L", (right - left + 2 * edge, bottom - top + 2 * edge))
    position = (edge - left, edge - top)
    ImageDraw.Draw(letters).multiline_text(position, text, 255, load_font(font, size), align="center")
    # dilating the small mask is ten times faster than stroking the letters
    return letters, letters.filter(ImageFilter.MaxFilter(2 * edge + 1))


@lru_cache(maxsize=1024)
def _box(text: str, font: str, size: int) -> tuple[int, int, int, int]:
    """Return the bounding box of a text drawn at (0, 0): left, top, right and bottom, in pixels."""
    ruler = ImageDraw.Draw(Image.new("L", (1, 1)))
    left, top, right, bottom = ruler.multiline_textbbox((0, 0), text, load_font(font, size), align="center")
    return math.floor(left), math.floor(top), math.ceil(right), math.ceil(bottom)
