"""Curves of made-up counts to plot, and the boxes of the texts in a plot."""

import numpy as np

from hf_paint import AlphaCurve
from hf_paint.results.alphas import Coefficients
from hf_paint.results.plots.style import styled
from hf_paint.results.records import Result


GRID = tuple(step / 10 for step in range(11))


def made_curve(alphas, tasks, *, total=1000, split="test", seed=0, per_image=True, **keys):
    """A curve in which patching tasks gain and the others lose, on counts of `total` images."""
    generator, results = np.random.default_rng(seed), []
    for role, names in tasks.items():
        for name in names:
            start, end = generator.uniform(0.3, 0.5), generator.uniform(0.9, 0.99)
            if role != "patching":
                start, end = generator.uniform(0.6, 0.9), generator.uniform(0.3, 0.6)
            for alpha in alphas:
                place = sum(alpha.values()) / len(alpha) if isinstance(alpha, Coefficients) else alpha
                curved = 1 - (1 - place) ** 2 if role == "patching" else place**2
                share = np.clip(start + (end - start) * curved, 0, 1)
                file = {"correct_file": f"{name}.npy"} if per_image else {}
                record = {"alpha": alpha, "task": name, "role": role, "split": split, "total": total}
                results.append(Result(**record, correct=round(share * total), **file, **keys))
    return AlphaCurve(results)


def text_boxes(plot):
    """(text, box in pixels) for every text that is drawn."""
    with styled([]):
        plot.draw_without_rendering()
        drawn = [*plot.texts]
        for axes in plot.axes:
            drawn += [*axes.texts, axes.xaxis.label, axes.yaxis.label, axes.title]
            for axis in (axes.xaxis, axes.yaxis):
                low, high = sorted(axis.get_view_interval())
                ticks = zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)
                drawn += [label for place, label in ticks if low <= place <= high]
        return [(t.get_text(), t.get_window_extent(plot.renderer)) for t in drawn if t.get_text().strip()]


def overlapping(plot, slack=0.5):
    """Pairs of texts whose boxes overlap by more than `slack` pixels, and texts that reach beyond the plot."""
    boxes, found = text_boxes(plot), []
    for index, (text, box) in enumerate(boxes):
        if box.x0 < 0 or box.y0 < 0 or box.x1 > plot.bbox.x1 or box.y1 > plot.bbox.y1:
            found.append((text, "the edge"))
        for other, place in boxes[index + 1 :]:
            across = min(box.x1, place.x1) - max(box.x0, place.x0)
            along = min(box.y1, place.y1) - max(box.y0, place.y0)
            if across > slack and along > slack:
                found.append((text, other))
    return found
