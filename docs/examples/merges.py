"""Merges side by side.

Four ways to merge the two fine-tuned models of `two_patches.py` into one. Each is shown as it is, at alpha 1; a run
would also choose an alpha (`method: tsv` and so on).
"""

import numpy as np
from matplotlib import pyplot
from toy import TOY, counting, digits, drawn, label, patched, save
from transformers import CLIPModel

from hf_paint import LazyWeights, evaluate_tasks, iso_c, ties, tsv, uniform_soup


tasks = [digits(), counting(), drawn("shapes"), drawn("words")]
base = LazyWeights(TOY)
tuned = {task.name: LazyWeights(patched(task, task.name).run_folder / "theta_1") for task in tasks[:2]}
models = {
    "base": base,
    "fine-tuned on digits": tuned["digits"],
    "fine-tuned on counting": tuned["counting"],
    "soup": uniform_soup(tuned),
    "TIES": ties(base, tuned),
    "TSV-M": tsv(base, tuned),
    "Iso-C": iso_c(base, tuned),
}
model = CLIPModel.from_pretrained(TOY)
figure, axes = pyplot.subplots(figsize=(8, 4))
for number, (name, weights) in enumerate(models.items()):
    model.load_state_dict(dict(weights), strict=False)
    accuracies = [100 * result.accuracy for result in evaluate_tasks(model, tasks)]
    axes.bar(np.arange(len(tasks)) + 0.12 * (number - 3), accuracies, 0.11, label=name)
axes.set_xticks(range(len(tasks)), [task.name for task in tasks])
axes.legend(loc="upper left", bbox_to_anchor=(1, 1))
label(axes, x="task", y="accuracy, % (test)", title="Two fine-tuned models and four merges of them")
save(__file__)
