"""The plots on the card of a patched model, with their captions and texts for those who cannot see them."""

from collections.abc import Sequence
from dataclasses import dataclass

from hf_paint.hub.card_source import CardSource
from hf_paint.results.alphas import alpha_phrase
from hf_paint.results.plots.shown import default_split
from hf_paint.results.run_files import ACCURACY_PLOT, CURVE_PLOT, PER_CLASS_PLOT


@dataclass(frozen=True, slots=True, kw_only=True)
class CardPlot:
    """A plot beside the card.

    Attributes:
        file: File name.
        alt: What it shows, for readers who do not see it.
        caption: Sentence below it.
    """

    file: str
    alt: str
    caption: str


def accuracy_plots(source: CardSource) -> Sequence[CardPlot]:
    """Return the plots of the accuracies that the run folder has, in the order of the card.

    They are the same on the cards of all alphas, and mark the selected one.
    """
    split, selected = default_split(source.curve), alpha_phrase(source.selected)
    axis = "supported accuracy" if split in source.curve.splits("supported") else "alpha"
    plots = [
        CardPlot(
            file=CURVE_PLOT,
            alt=f"Patching accuracy against {axis}, one point per model; the selected one, at {selected}, is marked",
            caption=f"Patching accuracy against {axis} on the {split} images (PAINT, Figure 1).",
        ),
        CardPlot(
            file=ACCURACY_PLOT,
            alt=f"Accuracy of each task, one line per task; the selected model, at {selected}, is marked",
            caption=f"Accuracy of each task on the {split} images.",
        ),
        CardPlot(
            file=PER_CLASS_PLOT,
            alt=f"Accuracy of the classes that changed most, zero-shot and at {selected}",
            caption=f"The classes whose accuracy on the {split} images changed most between zero-shot and {selected}.",
        ),
    ]
    return [plot for plot in plots if plot.file in source.plots]
