"""Plots of alpha curves."""

from pathlib import Path

from matplotlib.figure import Figure

from hf_paint.alphas import Alpha, Coefficients, format_alpha, size
from hf_paint.curve import AlphaCurve


def plot_trade_off(
    curve: AlphaCurve,
    path: str | Path,
    *,
    split: str = "test",
    selected: Alpha | None = None,
    connected: bool = True,
) -> None:
    """Plot patching accuracy against supported accuracy, one point per alpha (PAINT, Figure 1).

    Without supported tasks, patching accuracy is plotted against alpha.

    Args:
        curve: The curve.
        path: The image file.
        split: The split whose accuracies are plotted.
        selected: The alpha to mark.
        connected: Draw a line through the points in their order; a search for coefficients has none.
    """
    figure = Figure(figsize=(6, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    alphas = curve.points(split)
    patching = [100 * float(curve.mean_accuracy(alpha, "patching", split)) for alpha in alphas]
    has_supported = split in curve.splits("supported")
    across = [100 * float(curve.mean_accuracy(a, "supported", split)) if has_supported else size(a) for a in alphas]
    if connected:
        axes.plot(across, patching, color="tab:blue", linewidth=1, zorder=1)
    axes.scatter(across, patching, color="tab:blue", s=14, zorder=2)
    marks = [(0.0, "*", 160, "zero-shot"), (1.0, "D", 50, "fine-tuned"), (selected, "o", 90, "patched")]
    for alpha, marker, area, label in marks:
        if alpha in alphas:
            index = alphas.index(alpha)
            text = label if isinstance(alpha, Coefficients) else f"{label} (alpha {format_alpha(alpha)})"
            axes.scatter(across[index], patching[index], marker=marker, s=area, label=text, zorder=3)
    names = {role: ", ".join(curve.tasks.get(role, [])) for role in ("patching", "supported")}
    axes.set_xlabel(f"supported accuracy, % ({names['supported']}, {split})" if has_supported else "alpha")
    axes.set_ylabel(f"patching accuracy, % ({names['patching']}, {split})")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(path)
