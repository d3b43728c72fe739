"""Two patches added.

One patch reads digits, the other counts objects. Both are differences from the same base, so they can be added with a
weight each (task arithmetic, Ilharco et al., ICLR 2023). The best of these mixtures has a part of both.
"""

import numpy as np
from matplotlib import pyplot
from toy import TOY, counting, digits, label, patched, save

from hf_paint import apply_patch, evaluate_tasks


tasks = [digits(), counting()]
runs = [patched(task, task.name).run_folder for task in tasks]
weights = [0.0, 0.25, 0.5, 0.75, 1.0]
means = np.empty((len(weights), len(weights)))
for row, counts in enumerate(weights):
    for column, reads in enumerate(weights):
        both = apply_patch(TOY, {runs[0] / "theta_1": reads, runs[1] / "theta_1": counts})
        results = evaluate_tasks(both, tasks, max_eval_images=200)
        means[row, column] = 100 * np.mean([result.accuracy for result in results])
figure, axes = pyplot.subplots(figsize=(5.5, 4.5))
axes.grid(visible=False)
axes.imshow(means, origin="lower", cmap="viridis")
for (row, column), mean in np.ndenumerate(means):
    axes.text(column, row, f"{mean:.0f}", ha="center", va="center", color="white" if mean < 50 else "black")
axes.set(xticks=range(5), xticklabels=weights, yticks=range(5), yticklabels=weights)
label(axes, x="weight of the patch for digits", y="weight of the patch for counting", title="Mean accuracy, %")
save(__file__)
