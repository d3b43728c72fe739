"""Interpolation against shorter fine-tuning.

Could one stop the training early instead of interpolating? Each square is a model after fewer steps; the line joins
the mixtures of the base with the longest training. Up and to the right is better.
"""

import numpy as np
from matplotlib import pyplot
from toy import digits, label, patched, save

from hf_paint import AlphaCurve


def place(curve: AlphaCurve, alpha: float) -> list[float]:
    """Return the test accuracy in percent on what is kept and on what is learned."""
    return [100 * float(curve.mean_accuracy(alpha, role, "test")) for role in ("supported", "patching")]


curve = patched(digits(), "digits").curve
figure, axes = pyplot.subplots()
axes.plot(
    *np.transpose([place(curve, alpha) for alpha in curve.alphas]), marker="o", label="interpolation of 120 steps"
)
for steps in (10, 20, 40, 80):
    short = patched(digits(), f"steps-{steps}", max_steps=steps, warmup_steps=5, alphas=[0, 1], selection="none")
    x, y = place(short.curve, 1.0)
    axes.scatter(x, y, marker="s", color="C1", label="fine-tuning alone" if steps == 10 else None)
    axes.annotate(f"{steps} steps", (x, y), textcoords="offset points", xytext=(6, -10))
axes.annotate("base", place(curve, 0.0), textcoords="offset points", xytext=(6, -10))
axes.legend()
label(axes, x="shapes and words, % (test)", y="digits, %", title="Interpolation against stopping early")
save(__file__)
