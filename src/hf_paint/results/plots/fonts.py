"""Fonts for the texts of a plot: names of classes are in any script, and matplotlib's own font has few of them."""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, fontManager
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text

from hf_paint.errors import warn_once


LATIN = range(0x250)
"""Characters for which no font is looked up: those of the languages of Western Europe, which every font has."""
PLACEHOLDERS = "Last Resort"
"""Start of the name of a font that has a box for every character."""
REGULAR = (400, "normal", "regular")
NUM_SHOWN = 5
"""Maximum number of characters named in a warning."""


def save_figure(figure: Figure, path: str | Path) -> None:
    """Save a figure that was not drawn in the style of `styled`, with each character in a font that has it.

    Args:
        figure: Figure to save.
        path: Path to the output image file.
    """
    texts: list[Text] = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    if families := families_for("".join(text.get_text() for text in texts)):
        for text in texts:
            text.set_fontfamily([*text.get_fontfamily(), *families])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(path)


def families_for(texts: str) -> list[str]:
    """Return the families of installed fonts that texts need beside matplotlib's own, the most useful one first.

    Characters that no font has become boxes, and a warning names them once.

    Args:
        texts: All texts of a plot, as one string.

    Example:
        >>> families_for("größer")
        []
    """
    needed = frozenset(character for character in texts if ord(character) not in LATIN and not character.isspace())
    if not needed:
        return []
    families, missing = find_fonts(needed)
    _warn_of(missing)
    return families


@lru_cache(maxsize=64)
def find_fonts(characters: frozenset[str], families: tuple[str, ...] = ("sans-serif",)) -> tuple[list[str], list[str]]:
    """Return the families of installed fonts that together have the characters which the given ones lack.

    Args:
        characters: Characters to draw.
        families: Families that are used anyway.

    Returns:
        Families, the one that has most of the characters first, and the characters that no font has.

    Example:
        >>> find_fonts(frozenset("aé"))
        ([], [])
    """
    missing = characters - _characters_of(findfont(FontProperties(family=list(families))))
    found: list[str] = []
    faces = sorted(fontManager.ttflist, key=lambda face: face.style == "normal" and face.weight in REGULAR)
    fonts = {face.name: face.fname for face in faces if not face.name.startswith(PLACEHOLDERS)}
    while missing:
        best = max(sorted(fonts), key=lambda name: len(missing & _characters_of(fonts[name])))
        if not missing & _characters_of(fonts[best]):
            break
        found.append(best)
        missing -= _characters_of(fonts[best])
    return found, sorted(missing)


@lru_cache(maxsize=1024)
def _characters_of(path: str) -> frozenset[str]:
    try:
        return frozenset(map(chr, FT2Font(path).get_charmap()))
    except (OSError, RuntimeError):  # the file is gone or damaged
        return frozenset()


def _warn_of(missing: Sequence[str]) -> None:
    if missing:
        more = ", ..." * (len(missing) > NUM_SHOWN)
        warn_once(
            f"No installed font has {len(missing)} of the characters in the plots ({', '.join(missing[:NUM_SHOWN])}"
            f"{more}), so they are drawn as boxes. Install a font for them, for instance Noto Sans CJK."
        )
