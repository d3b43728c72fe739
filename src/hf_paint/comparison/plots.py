"""The plots of a comparison."""

import math
from collections.abc import Mapping, Sequence

from matplotlib import colormaps
from matplotlib.figure import Figure

from hf_paint.comparison.methods import Method
from hf_paint.comparison.runs import Run
from hf_paint.comparison.tables import Tasks, mean_columns
from hf_paint.plots import _figure
from hf_paint.weights.changes import ALL, WeightChanges


MARKERS = "osD^vPX"


def plot_trade_offs(runs: Sequence[Run], split: str) -> Figure | None:
    """Plot patching accuracy against supported accuracy, one line per run (PAINT, Figure 1).

    The means are over the tasks of each run. None if no run has tasks of both roles.
    """
    curves = {run: run.trade_off(split) for run in runs}
    if not any(curves.values()):
        return None
    figure, axes = _figure((8, 4.5))
    for run, points in curves.items():
        [line] = axes.plot(
            [100 * supported for _, supported, _ in points],
            [100 * patching for *_, patching in points],
            linestyle="" if run.strategy == "parallel" else "-",  # its points lie on no line
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


def plot_methods(methods: Sequence[Method], tasks: Tasks, split: str) -> Figure:
    """Plot the accuracy of every method on every task and in the mean, one below the other, a marker per base."""
    columns = {task: [task] for names in tasks.values() for task in names} | mean_columns(tasks)
    bases = list(dict.fromkeys(method.base for method in methods))
    figure, axes = _figure((9, 1.5 + len(columns) * (0.2 + 0.06 * len(methods))))
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
    """Plot the cosine similarity of theta_0 and theta_1 layer by layer, from embeddings (0) to projection (1).

    None where no weights were compared.
    """
    if not changes:
        return None
    figure, axes = _figure((8, 4.5))
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
