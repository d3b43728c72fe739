"""Broad transfer: how patching one half of the digits affects the other half (PAINT, Section 5).

    python tests/acceptance/broad_transfer.py

Run from the root of the checkout. Finished runs in runs/acceptance/broad_transfer are reused.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars
from speed import BF16, PRECISION, USE_CPU

from hf_paint import PaintTrainingArguments, PatchOptions, PatchResult, Task, get_task, patch_single
from hf_paint.cli.run_quickstart import _digits, _rendered
from hf_paint.tasks.subsets import ClassSplit


RUNS = Path("runs/acceptance/broad_transfer")
TASKS = Path(__file__).parent / "tasks"
SHARED = Path("../shared")
SEEDS = (0, 1)
ALPHAS = [0.0, 0.1, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0]
TRAINING = {"learning_rate": 3e-4, "max_steps": 200, "warmup_steps": 20, "per_device_train_batch_size": 64}
TRAINING |= {"weight_decay": 0.0, "augmentation": "none", "save_steps": 200, "use_cpu": USE_CPU, "disable_tqdm": True}
HEADER = ["base", "patched on", "alpha", "patched half", "other half", "gain", "gain at alpha 1"]


@dataclass(frozen=True)
class Setting:
    """A base, the task whose classes are split, and the supported tasks."""

    name: str
    model: str
    task: Task
    supported_tasks: list[Task]
    training: dict[str, Any]
    options: PatchOptions


def main() -> None:
    """Run whatever is missing and print the table."""
    disable_progress_bars()
    rows = [row(setting, seed, part) for setting in settings() for seed in SEEDS for part in (0, 1)]
    print(
        "\n## Broad transfer: test accuracy on the half that was not trained on, gains in points with 95 % intervals\n"
    )
    for cells in (HEADER, ["---"] * 2 + ["---:"] * 5, *rows):
        print(f"| {' | '.join(cells)} |")


def settings() -> Iterator[Setting]:
    """The toy CLIP on scikit-learn's digits, and the small real CLIP on MNIST if the reference data is present."""
    toy, data = str(files("hf_paint") / "toy_clip"), RUNS / "data"
    drawn = [_rendered(data, "shapes"), _rendered(data, "words")]
    yield Setting("toy", toy, _digits(data), drawn, {}, PatchOptions())
    if SHARED.exists():
        mnist = get_task(TASKS / "mnist.yaml")
        few = {
            "train": "train",
            "validation": "auto",
            "test": "test",
        }  # a tenth of the non-test images
        cifar10 = get_task({"extends": str(TASKS / "cifar10.yaml"), "name": "cifar10", "splits": few})
        tiny_clip = str(SHARED / "models" / "tiny-clip")
        yield Setting("tiny-clip", tiny_clip, mnist, [cifar10], {"bf16": BF16}, PatchOptions(precision=PRECISION))


def half(task: Task, part: int, seed: int) -> Task:
    """Return a task restricted to one half of its classes."""
    return replace(task, name=f"{task.name}-part-{part}-seed-{seed}", class_split=ClassSplit(part=part, seed=seed))


def patch(setting: Setting, seed: int, part: int) -> PatchResult:
    """Patch on one half; the other half does not influence the choice of alpha."""
    folder = RUNS / f"{setting.name}-seed-{seed}-part-{part}"
    args = PaintTrainingArguments(output_dir=str(folder), **TRAINING, **setting.training)
    print(f"running: {folder}", file=sys.stderr, flush=True)
    return patch_single(
        setting.model,
        half(setting.task, part, seed),
        setting.supported_tasks,
        args,
        alphas=ALPHAS,
        selection="supported_within",
        options=replace(setting.options, transfer_tasks=[half(setting.task, 1 - part, seed)]),
    )


def row(setting: Setting, seed: int, part: int) -> list[str]:
    """Patch, and return a row of the table: each accuracy as zero-shot -> patched, in percent."""
    result = patch(setting, seed, part)
    curve, alpha = result.curve, result.alpha
    before, after = ({r: curve.mean_accuracy(a, r, "test") for r in ("patching", "transfer")} for a in (0.0, alpha))
    changes = [f"{100 * float(before[role]):.1f} → {100 * float(after[role]):.1f}" for role in before]
    gains = [next(g for g in curve.gains(a, "test") if g.role == "transfer") for a in (alpha, 1.0)]
    cells = [f"{100 * g.gain:+.1f} ({100 * g.low:+.1f} to {100 * g.high:+.1f})" for g in gains]
    return [setting.name, f"part {part} of seed {seed}", f"{alpha:.1f}", *changes, *cells]


if __name__ == "__main__":
    main()
