"""The style of all plots: size, colours, fonts, a title that says what was found, and a note below."""

import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties

from hf_paint.results.plots.fonts import families_for


WIDTH = 7.0
"""Width in inches. With 100 pixels per inch, a plot is as wide as the text of a model card."""
DPI, SHARP_DPI = 100, 150
"""Pixels per inch for layout, and in files and notebooks, so that plots are sharp on screens with dense pixels."""
INK, MUTED, GRID = "#1a1a1a", "#595959", "#e3e3e3"
BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"
COLOURS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)
"""Colours that people with any colour vision tell apart (Okabe & Ito, 2008); yellow is too pale on white."""
DASHED = (0, (5, 4))
BAND = 0.18
"""Opacity of a band, which shows a 95 % interval."""
TITLE, TEXT, SMALL = 11.0, 9.5, 8.5
"""Font sizes in points."""
NOT_STYLE = ("backend", "interactive", "toolbar", "timezone", "date.", "webagg.", "tk.")
"""Starts of the settings that say where plots are shown, not what they look like."""
STYLE: dict[str, object] = {
    "font.size": TEXT,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,
    "text.hinting": "none",
    "svg.fonttype": "none",
    "svg.hashsalt": "hf_paint",
}


class Plot(Figure):
    """A figure that is always in the style of the library, and shows itself in notebooks, also without pyplot.

    Args:
        height: Height in inches.
    """

    def __init__(self, height: float) -> None:
        super().__init__(figsize=(WIDTH, height), dpi=DPI, layout="none")  # type: ignore[arg-type]
        self.families: list[str] = [*matplotlib.rcParams["font.family"]]
        self.renderer: RendererAgg = FigureCanvasAgg(self).get_renderer()  # type: ignore[no-untyped-call]

    def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
        """Return the plot as PNG, and the size to show it at."""
        width, height = (round(DPI * float(inches)) for inches in self.get_size_inches())
        return self.encoded("png"), {"width": width, "height": height}

    def encoded(self, form: Literal["png", "svg"], *, dpi: int = SHARP_DPI) -> bytes:
        """Return the plot as a PNG or SVG file, always with the same bytes. The text of an SVG is text."""
        file = io.BytesIO()
        metadata = {"Software": None} if form == "png" else {"Date": None, "Creator": None}
        with _style(self.families):
            self.savefig(file, format=form, dpi=dpi, metadata=metadata)
        return file.getvalue()

    def size_of(self, text: str, size: float = TEXT, *, weight: str = "normal") -> tuple[float, float]:
        """Return the width and height of one line of text, in inches."""
        font = FontProperties(family=self.families, size=size, weight=weight)
        width, height, _ = self.renderer.get_text_width_height_descent(text, font, False)  # type: ignore[no-untyped-call]
        return width / DPI, height / DPI


@contextmanager
def styled(texts: Iterable[str]) -> Iterator[None]:
    """Draw in the style of the library, whatever the user's own style is, in fonts that have all these texts."""
    with _style([*matplotlib.rcParamsDefault["font.family"], *families_for("".join(texts))]):
        yield


@contextmanager
def _style(families: Sequence[str]) -> Iterator[None]:
    settings: dict[str, object] = {k: v for k, v in matplotlib.rcParamsDefault.items() if not k.startswith(NOT_STYLE)}
    settings |= {**STYLE, "font.family": families}
    with matplotlib.rc_context(), warnings.catch_warnings():
        matplotlib.rcParams.update(settings)  # type: ignore[arg-type]  # keys are literals
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)  # `families_for` has warned of it
        yield
