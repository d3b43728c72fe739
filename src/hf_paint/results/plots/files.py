"""Save plots as files: always as PNG and as SVG beside each other, with the same bytes for the same plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from hf_paint.files import save_atomically
from hf_paint.results.plots.style import Plot


FORMS: tuple[Literal["png", "svg"], ...] = ("png", "svg")


def save_plot(plot: Plot, path: Path) -> None:
    """Save a plot as PNG, for the model card, and as SVG, whose text is text, for papers and slides.

    Args:
        plot: Plot to save.
        path: Path to the PNG file; the SVG file has the same name with another suffix.
    """
    for form in FORMS:
        _write(path.with_suffix(f".{form}"), plot.encoded(form))


def save_plots(folder: Path, plots: Mapping[str, Plot | None]) -> None:
    """Save plots under their names, and remove those that are None, which may be there from an earlier time."""
    for name, plot in plots.items():
        if plot is None:
            remove_plot(folder / name)
        else:
            save_plot(plot, folder / name)


def remove_plot(path: Path) -> None:
    """Remove a plot that `save_plot` saved, if it exists."""
    for form in FORMS:
        path.with_suffix(f".{form}").unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    def write(partial: Path) -> None:
        partial.write_bytes(content)

    save_atomically(path, write)
