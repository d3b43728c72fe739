"""Accuracies that others published for well-known models, to stand beside what a comparison measured."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paint.results.records import ROLES
from hf_paint.results.runs import Run


POOL = "fusion_bench, docs/modelpool/clip_vit.md"
AUTHORS = "mlfoundations/task_vectors, issue 5"
B32, B16, L14 = (f"openai/clip-vit-{size}" for size in ("base-patch32", "base-patch16", "large-patch14"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A row of published numbers: one model on several tasks, or the specialised model for each task.

    Attributes:
        model: Hub id of the base model.
        name: Name used in tables.
        source: Where the numbers were published.
        percent: Built-in task -> accuracy on its test images, in percent, as published.
    """

    model: str
    name: str
    source: str
    percent: Mapping[str, float]


def _row(model: str, name: str, source: str, text: str) -> Published:
    pairs = (entry.split("=") for entry in text.split())
    return Published(model=model, name=name, source=source, percent={task: float(value) for task, value in pairs})


PUBLISHED = (
    _row(
        *(B32, "zero-shot", POOL),
        "sun397=63.2 cars=59.6 resisc45=60.3 eurosat=45.0 svhn=31.6 gtsrb=32.5 mnist=48.3 dtd=44.2 "
        "stl10=97.1 cifar100=63.7 cifar10=89.8 food101=82.4 fashion_mnist=63.0",
    ),
    _row(
        *(B32, "specialised models", POOL),
        "sun397=75.0 cars=78.3 resisc45=95.2 eurosat=99.0 svhn=97.3 gtsrb=98.9 mnist=99.6 dtd=79.7",
    ),
    _row(
        *(B32, "joint, 2000 steps", AUTHORS),
        "cars=65.80 dtd=78.09 eurosat=97.22 gtsrb=97.32 mnist=99.02 resisc45=90.89 sun397=69.70 svhn=93.14",
    ),
    _row(
        *(B32, "joint, 8000 steps", AUTHORS),
        "cars=74.44 dtd=77.87 eurosat=98.22 gtsrb=98.91 mnist=99.45 resisc45=93.90 sun397=72.85 svhn=95.80",
    ),
    _row(
        *(B16, "zero-shot", POOL),
        "sun397=65.5 cars=64.7 resisc45=66.4 eurosat=54.1 svhn=52.0 gtsrb=43.5 mnist=51.7 dtd=45.0 "
        "stl10=98.3 cifar100=66.3 cifar10=90.8 food101=87.0",
    ),
    _row(
        *(B16, "specialised models", POOL),
        "sun397=78.9 cars=85.9 resisc45=96.6 eurosat=99.0 svhn=97.6 gtsrb=99.0 mnist=99.7 dtd=82.3",
    ),
    _row(
        *(L14, "zero-shot", POOL),
        "sun397=68.2 cars=77.9 resisc45=71.3 eurosat=61.2 svhn=58.4 gtsrb=50.5 mnist=76.3 dtd=55.5 "
        "stl10=99.4 cifar100=75.1 cifar10=95.6 food101=91.2",
    ),
    _row(
        *(L14, "specialised models", POOL),
        "sun397=82.8 cars=92.8 resisc45=97.4 eurosat=99.1 svhn=97.9 gtsrb=99.2 mnist=99.8 dtd=85.5",
    ),
    _row(
        *(L14, "joint, 2000 steps", AUTHORS),
        "cars=87.41 dtd=84.15 eurosat=98.07 gtsrb=98.75 mnist=99.35 resisc45=94.65 sun397=78.37 svhn=96.00",
    ),
    _row(
        *(L14, "joint, 8000 steps", AUTHORS),
        "cars=90.64 dtd=84.36 eurosat=99.19 gtsrb=99.07 mnist=99.63 resisc45=96.32 sun397=80.84 svhn=97.57",
    ),
)
"""Published numbers; none of them was measured here."""


def published_for(runs: Sequence[Run], split: str) -> list[tuple[str, Published]]:
    """Return (base as in tables, published row) for the bases and built-in tasks of runs; none for validation images.

    A row has only the tasks of the runs, and is left out if it has none of them.
    """
    if split != "test":
        return []
    found = []
    for base, model in dict.fromkeys(
        (run.base, str(run.recipe.get("base_model_id") or run.recipe["model"])) for run in runs
    ):
        tasks = _built_in_tasks([run for run in runs if run.base == base])
        for row in PUBLISHED:
            percent = {task: value for task, value in row.percent.items() if task in tasks}
            if row.model == model and percent:
                found.append((base, Published(model=model, name=row.name, source=row.source, percent=percent)))
    return found


def _built_in_tasks(runs: Sequence[Run]) -> set[str]:
    """Return the tasks that recipes name; others are definitions, which may have the name of a built-in task."""
    listed = (run.recipe.get(f"{role}_tasks") or [] for run in runs for role in ROLES)
    return {reference for references in listed for reference in references if isinstance(reference, str)}
