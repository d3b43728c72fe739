"""Ways to keep what a model knew while it learns: the small real CLIP learns MNIST and should keep CIFAR-10.

    python tests/acceptance/keeping.py

Run from the root of the checkout, beside the reference data (or with HF_PAINT_SHARED). It takes eight minutes of one
core; finished runs in runs/acceptance/keeping are reused. It prints the table of docs/how_to/keeping.md and
draws its curves.
"""

import os
import sys
from pathlib import Path
from typing import Any

from datasets import disable_progress_bars

from hf_paint import (
    AlphaCurve,
    PaintTrainingArguments,
    PatchOptions,
    PatchResult,
    compare_runs,
    get_task,
    patch_single,
)
from hf_paint.tasks.task import Task


RUNS = Path("runs/acceptance/keeping")
PICTURE = Path("docs/figures/keeping.png")
TASKS = Path(__file__).parent / "tasks"
SHARED = Path(os.environ.get("HF_PAINT_SHARED", "../shared"))
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]
TRAINING = {"learning_rate": 3e-4, "max_steps": 60, "warmup_steps": 6, "per_device_train_batch_size": 64}
TRAINING |= {"weight_decay": 0.0, "augmentation": "none", "save_strategy": "no", "use_cpu": True, "disable_tqdm": True}
WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    **{f"ldifs {weight}": {"regularization": {"ldifs": weight}} for weight in (100, 1000)},
    "l2_sp 0.1": {"regularization": {"l2_sp": 0.1}},
    "replay 0.25": {"replay_share": 0.25},
}
HEADER = ["fine-tuning", "MNIST at alpha 1", "CIFAR-10 at alpha 1", "alpha", "MNIST there", "CIFAR-10 there"]


def main() -> None:
    """Run whatever is missing, print the table and draw the curves."""
    disable_progress_bars()
    results = {name: patch(name, keys) for name, keys in WAYS.items()}
    [base] = {accuracies(result.curve, 0.0) for result in results.values()}
    print("\n## Test accuracy on 400 images each, in percent\n")
    for cells in (HEADER, ["---", *["---:"] * 5], ["none", *shown(base), "0", *shown(base)]):
        print(f"| {' | '.join(cells)} |")
    for name, result in results.items():
        cells = [*shown(accuracies(result.curve, 1.0)), f"{result.alpha:.2f}"]
        print(f"| {' | '.join([name, *cells, *shown(accuracies(result.curve, float(str(result.alpha))))])} |")
    plot = compare_runs([result.run_folder for result in results.values()]).plot("trade_off")
    PICTURE.write_bytes(plot.encoded("png"))


def patch(name: str, keys: dict[str, Any]) -> PatchResult:
    """Patch MNIST, and choose alpha by the default rule."""
    print(f"running: {name}", file=sys.stderr, flush=True)
    folder = RUNS / name.replace(" ", "-")
    args = PaintTrainingArguments(output_dir=str(folder), **TRAINING, **keys)
    model, mnist, cifar10 = SHARED / "models" / "tiny-clip", task("mnist"), task("cifar10_train")
    replayed = [cifar10] if "replay_share" in keys else []
    options = PatchOptions(max_eval_images=400, num_examples=0, replay_tasks=replayed)
    return patch_single(model, mnist, [cifar10], args, alphas=ALPHAS, options=options)


def task(name: str) -> Task:
    """Return a task of the reference data."""
    found = get_task(TASKS / f"{name}.yaml")
    folder = SHARED.resolve() / "data" / found.name
    files = {split: str(folder / f"{split}.parquet") for split in ("train", "test")}
    return get_task(found.to_dict() | {"data_files": files})


def accuracies(curve: AlphaCurve, alpha: float) -> tuple[float, float]:
    """Return the test accuracy of MNIST and of CIFAR-10 in percent."""
    patched, kept = (curve.mean_accuracy(alpha, role, "test") for role in ("patching", "supported"))
    return 100 * float(patched), 100 * float(kept)


def shown(values: tuple[float, float]) -> list[str]:
    """Return accuracies as cells of the table."""
    return [f"{value:.1f}" for value in values]


if __name__ == "__main__":
    main()
