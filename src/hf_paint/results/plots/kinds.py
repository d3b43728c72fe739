"""The kinds of plots of a run, and drawing all of them into its folder."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.class_changes import class_changes
from hf_paint.results.plots.accuracy import draw_accuracy
from hf_paint.results.plots.files import save_plots
from hf_paint.results.plots.per_class import draw_changes, draw_per_class, most_changed
from hf_paint.results.plots.scatter import draw_scatter
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.style import Plot
from hf_paint.results.plots.trade_off import draw_curve
from hf_paint.results.robustness_table import RobustnessTable
from hf_paint.results.run_folder import RunFolder


if TYPE_CHECKING:
    from hf_paint.results.curve import AlphaCurve

KINDS: Mapping[str, Callable[[Shown], Plot]] = {
    "curve": draw_curve,
    "accuracy": draw_accuracy,
    "per_class": draw_per_class,
    "scatter": draw_scatter,
}


def draw(curve: "AlphaCurve", kind: str, split: str | None = None) -> Plot:
    """Draw a curve; see `AlphaCurve.plot`."""
    if kind not in KINDS:
        raise InputError(f"Unknown kind of plot '{kind}'.{did_you_mean(kind, KINDS)} Pass one of {', '.join(KINDS)}.")
    shown = Shown.of(curve, split)
    if not shown.alphas and kind != "scatter":
        known = sorted({result.split for result in curve.results})
        raise InputError(
            f"No alpha has {shown.split} records of all patching and supported tasks. Pass another split; the curve "
            f"has records of {', '.join(known) or 'none'}."
        )
    return KINDS[kind](shown)


def save_run_plots(folder: RunFolder, shown: Shown, robustness: Mapping[str, RobustnessTable]) -> None:
    """Draw the plots of a run into its folder, and remove those of an earlier choice that do not apply any more.

    Args:
        folder: Run folder.
        shown: What the plots show.
        robustness: Robustness of the `weights` and of the output-space `ensemble`; empty without shift tasks.
    """
    plots: dict[str, Plot | None] = dict.fromkeys(path.name for path in folder.measured_plots)
    if shown.alphas:
        plots[folder.curve_plot.name] = draw_curve(shown)
        plots[folder.accuracy_plot.name] = draw_accuracy(shown)
    changes = [] if shown.selected is None else class_changes(shown.curve, shown.selected, shown.split)
    if changed := most_changed(changes):
        plots[folder.per_class_plot.name] = draw_changes(shown, changed, num_classes=len(changes))
    if "weights" in robustness:
        plots[folder.robustness_plot.name] = draw_scatter(shown, robustness["weights"], robustness.get("ensemble"))
    save_plots(folder.path, plots)
