"""Plot alpha curves and run comparisons."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from hf_paint.results.alphas import Alpha, Coefficients, format_alpha, total
from hf_paint.results.compared_models import ComparedModel
from hf_paint.results.comparison_tables import Tasks, mean_columns
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.fonts import save_figure
from hf_paint.results.robustness import Baseline, logit
from hf_paint.results.robustness_table import RobustnessTable
from hf_paint.results.runs import Run
from hf_paint.results.tables import FINE_TUNED
from hf_paint.weights.changes import ALL, WeightChanges


PERCENT = (0.1, 0.5, 1, 2, 5, 10, *range(15, 90, 5), 90, 92, 94, 95, 96, 97, 98, 98.5, 99, 99.5, 99.9)
"""Ticks for logit-scaled axes, in percent."""
MARKERS = "osD^vPX"


def plot_trade_off(
    curve: AlphaCurve,
    path: str | Path,
    *,
    split: str = "test",
    selected: Alpha | None = None,
    connected: bool = True,
    ensemble: AlphaCurve | None = None,
    fine_tuned_label: str = FINE_TUNED,
) -> None:
    """Plot patching accuracy against supported accuracy, with one point per alpha (PAINT, Figure 1).

    If there are no supported tasks, patching accuracy is plotted against alpha.

    Args:
        curve: Curve to plot.
        path: Path to the output image file.
        split: Split to plot accuracies for.
        selected: Alpha to mark as selected.
        connected: Connect the points with a line, in order. Disable this for a search, whose points have no order.
        ensemble: Curve of the output-space ensemble to draw for comparison.
        fine_tuned_label: Label for alpha 1.
    """
    figure, axes = new_figure()
    has_supported = split in curve.splits("supported")
    across, patching = _trade_off(curve, split)
    if ensemble is not None:
        _draw_ensemble(axes, *_trade_off(ensemble, split))
    if connected:
        axes.plot(across, patching, color="tab:blue", linewidth=1, zorder=1)
    axes.scatter(across, patching, color="tab:blue", s=14, zorder=2)
    _mark(axes, curve.points(split), across, patching, selected=selected, fine_tuned_label=fine_tuned_label)
    names = {role: ", ".join(curve.tasks.get(role, [])) for role in ("patching", "supported")}
    axes.set_xlabel(f"supported accuracy, % ({names['supported']}, {split})" if has_supported else "alpha")
    axes.set_ylabel(f"patching accuracy, % ({names['patching']}, {split})")
    axes.legend(frameon=False)
    save_figure(figure, path)


def plot_robustness(
    table: RobustnessTable,
    path: str | Path,
    *,
    selected: Alpha | None = None,
    ensemble: RobustnessTable | None = None,
    fine_tuned_label: str = FINE_TUNED,
) -> None:
    """Plot accuracy under shift against reference accuracy, both on a logit scale (WiSE-FT, Figure 1).

    Accuracies are clipped to between 0.1 % and 99.9 %, because the logits of 0 and 1 are infinite.

    Args:
        table: Robustness for every alpha.
        path: Path to the output image file.
        selected: Alpha to mark as selected.
        ensemble: Robustness of the output-space ensemble to draw for comparison.
        fine_tuned_label: Label for alpha 1.
    """
    figure, axes = new_figure()
    x, y = _logits(table)
    if ensemble is not None:
        _draw_ensemble(axes, *_logits(ensemble))
    axes.plot(x, y, color="tab:blue", linewidth=1, marker=".", zorder=1)
    _mark(axes, [row.alpha for row in table.rows], x, y, selected=selected, fine_tuned_label=fine_tuned_label)
    if table.baseline:
        _draw_baseline(axes, table.baseline)
    for axis in (axes.xaxis, axes.yaxis):
        _label_in_percent(axis)
    axes.set_xlabel(f"accuracy on {', '.join(table.reference_tasks)}, % ({table.reference_split})")
    one = len(table.shift_tasks) == 1
    shifts = f"accuracy on {table.shift_tasks[0]}" if one else f"mean accuracy on {len(table.shift_tasks)} shifts"
    axes.set_ylabel(f"{shifts}, % (test)")
    axes.legend(frameon=False)
    save_figure(figure, path)


def new_figure(size: tuple[float, float] = (6, 4.5)) -> tuple[Figure, Axes]:
    """Return an empty figure with the given size in inches, and its axes, which have a grid."""
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    axes = figure.subplots()
    axes.grid(alpha=0.3)
    return figure, axes


def _trade_off(curve: AlphaCurve, split: str) -> tuple[list[float], list[float]]:
    """Return supported accuracies (or alphas, if there are no supported tasks) and patching accuracies, in percent."""
    alphas = curve.points(split)
    patching = [100 * float(curve.mean_accuracy(alpha, "patching", split)) for alpha in alphas]
    if split not in curve.splits("supported"):
        return [total(alpha) for alpha in alphas], patching
    return [100 * float(curve.mean_accuracy(alpha, "supported", split)) for alpha in alphas], patching


def _logits(table: RobustnessTable) -> tuple[list[float], list[float]]:
    """Return the logits of the reference accuracies and of the accuracies under shift."""
    x, y = (
        logit(np.clip([getattr(row, side) for row in table.rows], 0.001, 0.999)) for side in ("reference", "shift")
    )
    return x.tolist(), y.tolist()


def _mark(
    axes: Axes,
    alphas: Sequence[Alpha],
    x: Sequence[float],
    y: Sequence[float],
    *,
    selected: Alpha | None,
    fine_tuned_label: str,
) -> None:
    """Mark alpha 0 and alpha 1, and draw a circle around the selected alpha."""
    circle = {"facecolors": "none", "edgecolors": "tab:green", "linewidths": 2}
    marks: list[tuple[Alpha | None, str, str, Mapping[str, Any]]] = [
        (0.0, "*", "zero-shot", {"s": 160, "color": "tab:blue"}),
        (1.0, "D", fine_tuned_label, {"s": 50, "color": "tab:orange"}),
        (selected, "o", "patched", {"s": 200} | circle),
    ]
    for alpha, marker, label, style in marks:
        if alpha is not None and alpha in alphas:
            index = alphas.index(alpha)
            text = label if isinstance(alpha, Coefficients) else f"{label} (alpha {format_alpha(alpha)})"
            axes.scatter(x[index], y[index], marker=marker, label=text, zorder=3, **style)


def _draw_ensemble(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    axes.plot(x, y, color="tab:gray", linewidth=1, linestyle="--", marker=".", zorder=1, label="output-space ensemble")


def _draw_baseline(axes: Axes, baseline: Baseline) -> None:
    limits = axes.get_xlim(), axes.get_ylim()
    axes.axline(
        (0, baseline.intercept), slope=baseline.slope, color="black", linestyle=":", zorder=0, label="baseline"
    )
    axes.set(xlim=limits[0], ylim=limits[1])


def _label_in_percent(axis: Axis) -> None:
    """Label a logit-scaled axis with accuracies in percent."""
    low, high = axis.get_view_interval()
    ticks = [(x, f"{percent:g}") for percent in PERCENT if low <= (x := float(logit(percent / 100))) <= high]
    axis.set_ticks([x for x, _ in ticks], labels=[label for _, label in ticks])


def plot_trade_offs(runs: Sequence[Run], split: str) -> Figure | None:
    """Plot patching accuracy against supported accuracy, with one line per run (PAINT, Figure 1).

    Accuracies are averaged over the tasks of each run. Return None if no run has tasks in both roles.
    """
    curves = {run: run.trade_off(split) for run in runs}
    if not any(curves.values()):
        return None
    figure, axes = new_figure((8, 4.5))
    for run, points in curves.items():
        [line] = axes.plot(
            [100 * supported for _, supported, _ in points],
            [100 * patching for *_, patching in points],
            linestyle="" if run.strategy == "parallel" else "-",  # combinations do not lie on a line
            marker=".",
            linewidth=1,
            label=run.label if len({r.base for r in runs}) == 1 else f"{run.base}: {run.label}",
        )
        for alpha, supported, patching in points:
            if alpha == 0.0:
                axes.scatter(100 * supported, 100 * patching, marker="*", s=140, color=line.get_color(), zorder=3)
            if alpha == run.chosen:
                color = line.get_color()
                axes.scatter(100 * supported, 100 * patching, s=110, facecolors="none", edgecolors=color, zorder=3)
    axes.plot([], [], "k*", markersize=10, label="zero-shot")
    axes.plot([], [], "ko", markersize=10, fillstyle="none", label="chosen alpha")
    axes.set_xlabel(f"supported accuracy, mean, % ({split})")
    axes.set_ylabel(f"patching accuracy, mean, % ({split})")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def plot_methods(methods: Sequence[ComparedModel], tasks: Tasks, split: str) -> Figure:
    """Plot every model's accuracy on each task and on average, with one row per task and one marker per base."""
    columns = {task: [task] for names in tasks.values() for task in names} | mean_columns(tasks)
    bases = list(dict.fromkeys(method.base for method in methods))
    figure, axes = new_figure((9, 1.5 + len(columns) * (0.2 + 0.06 * len(methods))))
    for index, method in enumerate(methods):
        values = [method.mean(names) for names in columns.values()]
        axes.scatter(
            [math.nan if value is None else 100 * float(value) for value in values],
            [row + 0.7 * (index + 0.5) / len(methods) - 0.35 for row in range(len(columns))],
            color=colormaps["tab20"](index % 20),
            marker=MARKERS[bases.index(method.base) % len(MARKERS)],
            label=method.name if len(bases) == 1 else f"{method.base}: {method.name}",
        )
    axes.set_yticks(range(len(columns)), list(columns))
    axes.invert_yaxis()
    axes.set_xlabel(f"accuracy, % ({split})")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure


def plot_cosines(changes: Mapping[str, WeightChanges]) -> Figure | None:
    """Plot the cosine similarity of theta_0 and theta_1 by layer, from the embeddings (0) to the projection (1).

    Return None if no weights were compared.
    """
    if not changes:
        return None
    figure, axes = new_figure((8, 4.5))
    for base, measured in changes.items():
        layers = [layer for layer in measured.products if layer != ALL]
        depths = [index / max(1, len(layers) - 1) for index in range(len(layers))]
        for model in measured.models:
            cosines = [measured.cosine_to_base(model, layer) for layer in layers]
            label = model if len(changes) == 1 else f"{base}: {model}"
            axes.plot(depths, cosines, marker=".", linewidth=1, label=label)
    axes.set_xlabel("depth (embeddings 0, encoder layers between, projection 1)")
    axes.set_ylabel("cosine(theta_0, theta_1)")
    figure.legend(loc="outside right upper", frameon=False, fontsize=8)
    return figure
