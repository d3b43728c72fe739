"""Accuracy along alpha.

Every alpha is measured on the same test images, so the change from the model before patching has a paired interval.
The digits gain from the start; the shapes and words begin to lose later.
"""

from matplotlib import pyplot
from toy import digits, label, patched, save


result = patched(digits(), "digits")
figure, axes = pyplot.subplots()
for name in ("digits", "shapes", "words"):
    gains = [next(g for g in result.curve.gains(alpha) if g.task == name) for alpha in result.curve.alphas]
    axes.plot(result.curve.alphas, [100 * g.gain for g in gains], marker="o", label=name)
    axes.fill_between(result.curve.alphas, [100 * g.low for g in gains], [100 * g.high for g in gains], alpha=0.2)
axes.axvline(result.alpha, color="black", linestyle="--", label=f"chosen: {result.alpha:g}")
axes.legend()
label(axes, x="alpha", y="change of accuracy, points", title="Change on test images, with 95 % intervals")
save(__file__)
