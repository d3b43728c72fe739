"""What each rule chooses.

All rules read the same validation accuracies. `supported_within` takes the best alpha that loses at most the tolerance
on the tasks to keep, `mean` counts both sides the same, and `entropy` looks at no label.
"""

from matplotlib import pyplot
from toy import digits, label, patched, save


curve = patched(digits(), "digits").curve
sides = {alpha: curve.sides(alpha) for alpha in curve.alphas}
chosen = {
    "supported_within, 1 point": curve.select("supported_within", tolerance=0.01),
    "supported_within, 5 points": curve.select("supported_within", tolerance=0.05),
    "mean": curve.select("mean"),
    "entropy": curve.select("entropy"),
}
figure, axes = pyplot.subplots()
kept, learned = ([100 * float(side[role]) for side in sides.values()] for role in (1, 0))
axes.plot(kept, learned, color="grey", marker="o", markersize=4, label="every alpha")
for size, (rule, alpha) in enumerate(chosen.items()):
    place = 100 * float(sides[alpha].supported), 100 * float(sides[alpha].patching)
    ring = {"s": 400 - 90 * size, "facecolors": "none", "edgecolors": f"C{size}", "linewidths": 2}
    axes.scatter(*place, **ring, label=f"{rule}: alpha {alpha:g}")
axes.legend(loc="lower left")
label(axes, x="shapes and words, % (validation)", y="digits, %", title="One curve, four choices")
save(__file__)
