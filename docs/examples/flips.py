"""Pictures that change their answer.

A run records which test images are right at every alpha. These are the ones that patching turns, with the answers of
the model before and after it, computed with transformers alone.
"""

import numpy as np
from matplotlib import pyplot
from toy import TOY, digits, patched, save
from transformers import pipeline


task, result = digits(), patched(digits(), "digits")
before, after = (
    result.curve.correct_images(result.curve.get(alpha, "patching", "digits", "test")) for alpha in (0.0, result.alpha)
)
turned = [*np.flatnonzero(~before & after)[:8], *np.flatnonzero(before & ~after)[:4]]
test = task.rows["test"].select(turned)
pictures = [picture.convert("RGB") for picture in test["image"]]
answers = []
for model in (TOY, str(result.patched)):
    classify = pipeline("zero-shot-image-classification", model=model, device="cpu")
    found = classify(pictures, candidate_labels=list("0123456789"), hypothesis_template=task.templates[0])
    answers.append([scores[0]["label"] for scores in found])
figure, grid = pyplot.subplots(2, 6, figsize=(8, 3.4))
for axes in grid.flat:
    axes.axis("off")
for axes, picture, label, first, then in zip(grid.flat, pictures, test["label"], *answers, strict=False):
    axes.imshow(picture)
    axes.set_title(f"{first} → {then}", color="green" if then == str(label) else "firebrick")
figure.suptitle(f"{(~before & after).sum()} digits become right (green), {(before & ~after).sum()} become wrong (red)")
save(__file__)
