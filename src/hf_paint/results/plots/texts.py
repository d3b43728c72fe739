"""Lines of text that fit into a plot, measured in its fonts."""

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
        """Return one line of text, cut with an ellipsis if it is wider than some inches."""
        if self.width(text) <= width:
            return text
        return text[: self._fitting(text, width - self.width(ELLIPSIS))].rstrip() + ELLIPSIS

    def wrapped(self, text: str, width: float, *, most: int = 3) -> list[str]:
        """Return the lines of a text that is broken at spaces, and within words that are wider than a line.

        Args:
            text: Text to break.
            width: Width of a line, in inches.
            most: Maximum number of lines; the last one is cut.
        """
        lines: list[str] = []
        rest = " ".join(text.split())
        while rest and len(lines) < most - 1:
            end = self._fitting(rest, width)
            if end < len(rest) and (space := rest.rfind(" ", 0, end + 1)) > 0:
                end = space
            lines.append(rest[:end].rstrip())
            rest = rest[end:].lstrip()
        return [*lines, self.shortened(rest, width)] if rest else lines

    def _fitting(self, text: str, width: float) -> int:
        """Return how many characters from the start of a text fit into a width, at least 1."""
        fits, too_many = 1, len(text) + 1
        while too_many - fits > 1:
            middle = (fits + too_many) // 2
            fits, too_many = (middle, too_many) if self.width(text[:middle]) <= width else (fits, middle)
        return fits
