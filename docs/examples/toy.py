"""What the examples share: the toy CLIP of the package, pictures that need no network, and short runs.

A run is made below `runs/examples` in the current folder by the first example that needs it; the others read it.
"""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image
from matplotlib import pyplot
from matplotlib.axes import Axes
from PIL import Image as PILImage
from sklearn.datasets import load_digits

from hf_paint import PatchResult, SceneStyle, Task, get_task, patch, write_counting_task
from hf_paint.tasks.rendering import Subject, render, rendered_task


TOY = str(files("hf_paint") / "toy_clip")
"""A CLIP of under a million parameters for pictures of 32x32 pixels, trained on drawn shapes, words and numbers."""
RUNS = Path("runs/examples")
TRAINING = {
    "learning_rate": 3e-4,
    "max_steps": 120,
    "warmup_steps": 12,
    "per_device_train_batch_size": 64,
    "weight_decay": 0.0,
    "augmentation": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "disable_tqdm": True,
    "num_examples": 0,
}
SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
COUNTS = ("one", "two", "three", "four", "five", "six")
_results: dict[str, PatchResult] = {}
"""Runs that this process has read."""
pyplot.rcParams |= {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}
pyplot.rcParams |= {"figure.figsize": (7, 4), "figure.constrained_layout.use": True, "savefig.dpi": 110}


@cache
def digits() -> Task:
    """Handwritten digits that come with scikit-learn: 1297 to train on, 500 to test."""
    data = load_digits()
    small = (data.images * (255 / 16)).astype("uint8")
    pictures = [PILImage.fromarray(image).resize((32, 32), PILImage.Resampling.BICUBIC) for image in small]
    rows = {"test": slice(0, 500), "train": slice(500, None)}
    parts = {split: (pictures[part], data.target[part].tolist()) for split, part in rows.items()}
    return in_memory("digits", parts, list("0123456789"), ['a photo of the number: "{}".'])


@cache
def drawn(name: str) -> Task:
    """Drawn `shapes` or `words`, which the toy CLIP knows."""
    parts = {}
    for seed, split in enumerate(("validation", "test")):
        pixels, labels, classes, templates = rendered_task(name, 360, seed)
        parts[split] = ([PILImage.fromarray(image) for image in pixels], labels.tolist())
    return in_memory(name, parts, classes, templates)


@cache
def counting() -> Task:
    """Scenes of one to six objects; the class is their number."""
    style = SceneStyle(image_size=32, radius=(0.09, 0.13))
    sizes = {"train": 1200, "validation": 300, "test": 300}
    return write_counting_task(RUNS / "data", counts=COUNTS, sizes=sizes, style=style)


def one_shape(name: str, **keys: object) -> Task:
    """Drawn green shapes; the class is the shape. `keys` are more keys of the task, such as `attack`."""
    parts = {}
    for seed, (split, number) in enumerate({"train": 800, "validation": 240, "test": 240}.items()):
        draw = np.random.default_rng(seed)
        labels = [row % len(SHAPES) for row in range(number)]
        pixels = [render(Subject("shape", f"green {SHAPES[label]}"), draw, 0.4) for label in labels]
        parts[split] = ([PILImage.fromarray(image) for image in pixels], labels)
    return in_memory(name, parts, list(SHAPES), ["a photo of a green {}."], **keys)


def in_memory(
    name: str, parts: dict[str, tuple[list[Any], list[int]]], classes: list[str], prompts: list[str], **keys: object
) -> Task:
    """Return a task of pictures and labels in memory, one pair of lists for each split."""
    features = Features({"image": Image(), "label": ClassLabel(names=classes)})
    splits = {
        split: Dataset.from_dict({"image": pictures, "label": labels}, features=features)
        for split, (pictures, labels) in parts.items()
    }
    return get_task({"name": name, "dataset": DatasetDict(splits), "templates": prompts, **keys})


def patched(task: Task | list[Task], folder: str, keep: Sequence[Task] = (), **options: Any) -> PatchResult:
    """Patch the toy CLIP, or read the finished run; it keeps shapes and words, or the tasks in `keep`."""
    if folder not in _results:
        kept = keep or [drawn("shapes"), drawn("words")]
        _results[folder] = patch(TOY, task, kept, RUNS / folder, **(TRAINING | options))
    return _results[folder]


def label(axes: Axes, *, x: str, y: str, title: str) -> None:
    """Name the axes of a picture and say what it shows."""
    axes.set(xlabel=x, ylabel=y)
    axes.set_title(title, loc="left", fontsize=11)


def save(name: str | Path) -> None:
    """Write the picture of a script, `NAME.py`, to `runs/examples/NAME.png`."""
    pyplot.savefig(RUNS / Path(name).with_suffix(".png").name)
