"""Lines of text that fit into a plot, measured in its fonts."""

from collections.abc import Callable
from dataclasses import dataclass

from hf_paint.results.plots.style import TEXT, Plot


ELLIPSIS = "…"


@dataclass(frozen=True, slots=True)
class Face:
    """A font size and weight, in the fonts of a plot.

    Attributes:
        plot: Plot that the text is for.
        size: Font size in points.
        weight: `normal` or `bold`.
    """

    plot: Plot
    size: float = TEXT
    weight: str = "normal"

    def width(self, text: str) -> float:
        """Return the width of one line of text, in inches."""
        return self.plot.size_of(text, self.size, weight=self.weight)[0]

    def shortened(self, text: str, width: float) -> str:
        """Return one line of text, with an ellipsis in its middle if it is wider than some inches.

        Both ends stay, because names in one plot often differ at their ends.
        """
        if self.width(text) <= width:
            return text
        kept = _most(len(text), lambda number: self.width(_without_middle(text, number)) <= width)
        return _without_middle(text, kept)

    def wrapped(self, text: str, width: float, *, most: int = 3) -> list[str]:
        """Return the lines of a text that is broken at spaces, and within words that are wider than a line.

        Args:
            text: Text to break.
            width: Width of a line, in inches.
            most: Maximum number of lines; the last one is shortened.
        """
        lines: list[str] = []
        rest = " ".join(text.split())
        while rest and len(lines) < most - 1:
            end = _most(len(rest), self._starts(rest, width))
            if end < len(rest) and (space := rest.rfind(" ", 0, end + 1)) > 0:
                end = space
            lines.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        return [*lines, self.shortened(rest, width)] if rest else lines

    def _starts(self, text: str, width: float) -> Callable[[int], bool]:
        """Return a function that says whether a number of characters from the start of a text fits."""
        return lambda number: self.width(text[:number]) <= width


def _without_middle(text: str, kept: int) -> str:
    """Return a text with an ellipsis for all but some of its characters, from both ends."""
    return text[: -(-kept // 2)] + ELLIPSIS + text[len(text) - kept // 2 :]


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """Return the largest number from 1 up to a limit that fits, or 1 if none does."""
    most, too_many = 1, limit + 1
    while too_many - most > 1:
        middle = (most + too_many) // 2
        most, too_many = (middle, too_many) if fits(middle) else (most, middle)
    return most
