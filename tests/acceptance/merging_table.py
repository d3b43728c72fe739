"""The merges side by side on real images: three tasks patched into one small CLIP, with one kept, over three seeds.

    python tests/acceptance/merging_table.py [--seeds 0 1 2] [--output runs/acceptance/merging]
    python tests/acceptance/merging_table.py --docs      write the recorded figures into docs/how_to/merging.md

Run from the root of the checkout. Each task is fine-tuned once per seed; every merge starts from these models. What is
finished is kept, so the script can be interrupted and repeated. Time is CPU time over all threads, and memory is the
peak of the resident memory above what the process had before, both of everything after the fine-tuning.
"""

import argparse
import json
import os
import shutil
import sys
import time
from dataclasses import fields
from pathlib import Path

import torch
from merging_figures import FIGURES, render, write_docs
from photo_defects import make_task
from speed import BF16, PRECISION, USE_CPU

from hf_paint import (
    PaintTrainingArguments,
    PatchOptions,
    Task,
    get_task,
    patch_joint,
    patch_parallel,
    patch_sequential,
)
from hf_paint.merging.registry import METHODS
from hf_paint.patching.options import PatchResult
from hf_paint.results.alphas import Coefficients, alpha_to_json


TASKS = Path(__file__).parent / "tasks"
SHARED = Path(os.environ.get("HF_PAINT_SHARED", "../shared"))
STEPS, IMAGES, BUDGET = 150, 300, 36
RULE, TOLERANCE = "mean", 0.01
ALPHAS = [round(0.1 * step, 1) for step in range(11)]
MERGES = (
    "uniform_soup",
    "task_arithmetic",
    "ties",
    "dare",
    "tsv",
    "iso_c",
    "iso_cts",
    "regmean",
    "adamerging",
    "auto",
)
SEARCHED, JOINT, SEQUENTIAL, PROJECTION = "searched coefficients", "joint", "sequential", "projection"
ROWS = (SEARCHED, *MERGES, JOINT, SEQUENTIAL, PROJECTION)
"""The searched coefficients come first: that run fine-tunes, and measures the fine-tuned models."""


def main() -> int:
    """Run what is missing, and print the table and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=ROWS, choices=ROWS)
    parser.add_argument("--output", type=Path, default=Path("runs/acceptance/merging"))
    parser.add_argument(
        "--docs", action="store_true", help="only write the recorded figures into docs/how_to/merging.md"
    )
    parsed = parser.parse_args()
    if parsed.docs:
        write_docs()
        return 0
    if not SHARED.exists():
        print("The reference data is not there: nothing was run.")
        return 0
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    for seed in parsed.seeds:
        for row in parsed.rows:
            if is_there(row):
                record(row, seed, parsed.output)
            else:
                print(f"{row}: not in the registry, left out", flush=True)
    found = [json.loads(path.read_text()) for path in sorted(parsed.output.glob("*.json"))]
    FIGURES.write_text(json.dumps({"settings": settings(), "runs": found}, indent=1) + "\n")
    print(render(json.loads(FIGURES.read_text())))
    return 0


def is_there(row: str) -> bool:
    """Return whether this version has a method or an option."""
    if row == PROJECTION:
        return any(f.name == "merge" for f in fields(PatchOptions))
    return row not in MERGES or row in METHODS


def settings() -> dict[str, object]:
    """Return what a reader of the table needs to know of the runs."""
    shown = {"steps": STEPS, "images": IMAGES, "budget": BUDGET, "alphas": len(ALPHAS)}
    return shown | {"rule": RULE, "tolerance": TOLERANCE}


def record(row: str, seed: int, output: Path) -> None:
    """Run one row with one seed and write what it reached, unless that is written."""
    path = output / f"{row.replace(' ', '_')}-{seed}.json"
    if path.exists():
        return
    output.mkdir(parents=True, exist_ok=True)
    if row == SEARCHED:  # its time must not hold that of the fine-tuning
        run(JOINT, seed, output, fine_tune=True)
    before, start = reset_peak(), time.process_time()
    result = run(row, seed, output)
    seconds, peak = time.process_time() - start, peak_memory() - before
    found = {"row": row, "seed": seed, "cpu_seconds": seconds, "peak_mib": peak / 2**20} | reached(result)
    path.write_text(json.dumps(found, indent=1))
    print(f"{row}, seed {seed}: {seconds:.0f} s", flush=True)


def run(row: str, seed: int, output: Path, *, fine_tune: bool = False) -> PatchResult | None:
    """Patch with one method. With `fine_tune`, only fine-tune the model of each task, and return None."""
    tasks = [shared_task("mnist"), shared_task("gtsrb")]
    tasks.append(make_task(SHARED / "data/imagenet_sample/test.parquet", output / "photo-defects"))
    kept = [shared_task("cifar10")]
    model, thetas = str(SHARED / "models/tiny-clip"), output / f"thetas-{seed}"
    options: dict[str, object] = {"max_eval_images": IMAGES, "num_examples": 0, "precision": PRECISION}
    folder = output / f"{'thetas' if fine_tune else row.replace(' ', '_')}-{seed}"
    if fine_tune:
        for task in tasks:
            where = arguments(folder / task.name, seed)
            only = PatchOptions(**options | {"max_eval_images": 100})
            patch_joint(model, [task], [], where, alphas=[1.0], selection="none", options=only)
        return None
    rule = {"alphas": ALPHAS, "selection": RULE}
    if row == JOINT:
        args = arguments(folder, seed, max_steps=STEPS * len(tasks))
        return patch_joint(model, tasks, kept, args, **rule, options=PatchOptions(**options))
    if row in (SEQUENTIAL, PROJECTION):
        options |= {"merge": "projection"} if row == PROJECTION else {}
        return patch_sequential(model, tasks, kept, arguments(folder, seed), **rule, options=PatchOptions(**options))
    options["thetas"] = {task.name: str(thetas / task.name / "theta_1") for task in tasks}
    if row in (SEARCHED, "auto"):
        options["search_budget"] = BUDGET
    options["method"] = "interpolate" if row == SEARCHED else row
    return patch_parallel(model, tasks, kept, arguments(folder, seed), **rule, options=PatchOptions(**options))


def shared_task(name: str) -> Task:
    """Return a task of the reference data, wherever they are."""
    files = {split: str((SHARED / "data" / name / f"{split}.parquet").resolve()) for split in ("train", "test")}
    return get_task({"extends": str(TASKS / f"{name}.yaml"), "name": name, "data_files": files})


def arguments(folder: Path, seed: int, *, max_steps: int = STEPS) -> PaintTrainingArguments:
    """Return the training arguments, those of `tiny_clip_parallel.yaml` with fewer steps."""
    shutil.rmtree(folder, ignore_errors=True)  # an interrupted run would be timed from its middle
    return PaintTrainingArguments(
        output_dir=str(folder),
        seed=seed,
        max_steps=max_steps,
        learning_rate=3e-4,
        warmup_steps=0.1,
        weight_decay=0.0,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
        augmentation="none",
        bf16=BF16,
        save_strategy="no",
        use_cpu=USE_CPU,
        disable_tqdm=True,
    )


def reached(result: PatchResult) -> dict[str, object]:
    """Return the test accuracies before and after, and those of the fine-tuned models where they were measured."""
    curve, alpha = result.curve, result.alpha
    tests = [r for r in curve.results if r.split == "test"]
    after = {r.task: [r.correct, r.total] for r in tests if r.alpha == alpha}
    before = {r.task: [r.correct, r.total] for r in tests if r.alpha == 0.0}
    alone = {r.task: [r.correct, r.total] for r in tests if r.alpha == Coefficients({r.task: 1.0})}
    gains = {gain.task: [gain.gain, gain.low, gain.high] for gain in curve.gains(alpha, "test")}
    roles = {r.task: r.role for r in tests}
    found = {"alpha": alpha_to_json(alpha), "roles": roles, "before": before, "after": after, "alone": alone}
    recipe = (result.run_folder / "recipe.yaml").read_text()
    within = curve.select("supported_within", tolerance=TOLERANCE)
    return found | {"gains": gains, "chosen": chosen_in(recipe), "within": alpha_to_json(within)}


def chosen_in(recipe: str) -> str | None:
    """Return the merge that `auto` chose."""
    import yaml

    method = yaml.safe_load(recipe).get("method", {})
    return next(iter(method["auto"]["chosen"])) if "auto" in method else None


def reset_peak() -> int:
    """Begin to measure the peak of the resident memory, and return what it is now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_memory()


def peak_memory() -> int:
    """Return the peak of the resident memory since `reset_peak`, in bytes."""
    [line] = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    sys.exit(main())
