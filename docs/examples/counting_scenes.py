"""Counting objects.

The scenes are drawn, and their class is the number of objects. The model before patching knows the words, but does not
count; the picture shows what each of the two answers.
"""

from datasets import Dataset
from matplotlib import pyplot
from toy import COUNTS, TOY, counting, patched, save
from transformers import pipeline


task = counting()
result = patched(task, "counting")
test = Dataset.from_parquet(dict(task.data_files)["test"]).select(range(12))
answers = []
for model in (TOY, str(result.patched)):
    classify = pipeline("zero-shot-image-classification", model=model, device="cpu")
    found = classify(list(test["image"]), candidate_labels=list(COUNTS), hypothesis_template=task.templates[0])
    answers.append([scores[0]["label"] for scores in found])
figure, grid = pyplot.subplots(2, 6, figsize=(9, 3.8))
for axes, picture, label, first, then in zip(grid.flat, test["image"], test["label"], *answers, strict=True):
    axes.imshow(picture)
    axes.axis("off")
    axes.set_title(f"{first} → {then}", fontsize=10, color="green" if then == COUNTS[label] else "firebrick")
rates = [100 * float(result.curve.mean_accuracy(alpha, "patching", "test")) for alpha in (0.0, result.alpha)]
figure.suptitle(
    f"Answers before and after patching; on all test scenes, {rates[0]:.0f} % → {rates[1]:.0f} % are right"
)
save(__file__)
