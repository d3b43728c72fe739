"""How far the alpha chosen without labels (`selection: entropy`) is from the alpha chosen with them, on real images.

    python tests/acceptance/without_labels.py [FOLDER]

Run from the root of the checkout. Finished runs in FOLDER are reused.
"""

import math
import os
import sys
from pathlib import Path

import yaml
from speed import BF16, PRECISION, USE_CPU

from hf_paint import AlphaCurve, PaintTrainingArguments, PatchOptions, get_task, patch_single


SHARED = Path(os.environ.get("HF_PAINT_SHARED", "../shared"))
TASKS = Path(__file__).parent / "tasks"
CLASSES = {"mnist": 10, "gtsrb": 43, "cifar10": 10}
ALPHAS = [step / 10 for step in range(11)]
TRAINING = {"learning_rate": 3e-4, "max_steps": 120, "warmup_steps": 12, "per_device_train_batch_size": 32}
NUM_IMAGES, SEEDS = 500, (0, 1, 2)


def main(folder: Path) -> None:
    """Run two tasks with three seeds each, and print a table of alphas and test accuracies."""
    print("| task | seed | rule | alpha | patching | supported | mean, to the rule `mean` |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for name in ("mnist", "gtsrb"):
        for seed in SEEDS:
            curve = patched(name, seed, folder / f"{name}-{seed}")
            best = mean_of(curve, curve.select("mean"))
            for rule, alpha in chosen(curve, name).items():
                patching, supported = (accuracy(curve, alpha, role) for role in ("patching", "supported"))
                cells = f"{alpha:.1f} | {patching:.1f} | {supported:.1f} | {mean_of(curve, alpha) - best:+.1f}"
                print(f"| {name} | {seed} | {rule} | {cells} |", flush=True)


def patched(name: str, seed: int, folder: Path) -> AlphaCurve:
    """Return the curve of a short run with CIFAR-10 as supported task."""
    if not (folder / "patched").exists():
        args = PaintTrainingArguments(
            output_dir=str(folder), seed=seed, use_cpu=USE_CPU, bf16=BF16, disable_tqdm=True, **TRAINING
        )
        options = PatchOptions(max_eval_images=NUM_IMAGES, precision=PRECISION, num_examples=0)
        rule = {"alphas": ALPHAS, "selection": "entropy"}
        patch_single(str(SHARED / "models/tiny-clip"), task(name), [task("cifar10")], args, options=options, **rule)
    return AlphaCurve.from_run(folder)


def task(name: str) -> object:
    """Return a task of the acceptance runs."""
    definition = yaml.safe_load((TASKS / f"{name}.yaml").read_text())
    files = {split: str((SHARED / f"data/{name}/{split}.parquet").resolve()) for split in ("train", "test")}
    return get_task(definition | {"data_files": files})


def chosen(curve: AlphaCurve, name: str) -> dict[str, float]:
    """Return what each rule chooses; `entropy in nats` does not divide by the log of the number of classes."""
    in_nats = {
        alpha: sum(entropy(curve, alpha, role, task) * math.log(CLASSES[task]) for role, task in sides(name))
        for alpha in curve.alphas
    }
    rules = {rule: curve.select(rule) for rule in ("mean", "supported_within", "entropy")}
    return rules | {"entropy in nats": min(in_nats, key=lambda alpha: (in_nats[alpha], alpha))}


def sides(name: str) -> list[tuple[str, str]]:
    """Return the (role, task) pairs of a run."""
    return [("patching", name), ("supported", "cifar10")]


def entropy(curve: AlphaCurve, alpha: float, role: str, task: str) -> float:
    """Return the relative entropy on validation images."""
    return curve.get(alpha, role, task, "validation").relative_entropy


def accuracy(curve: AlphaCurve, alpha: float, role: str) -> float:
    """Return the test accuracy in percent."""
    return 100 * float(curve.mean_accuracy(alpha, role, "test"))


def mean_of(curve: AlphaCurve, alpha: float) -> float:
    """Return the mean of both sides' test accuracies in percent."""
    return (accuracy(curve, alpha, "patching") + accuracy(curve, alpha, "supported")) / 2


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/acceptance/without-labels"))
