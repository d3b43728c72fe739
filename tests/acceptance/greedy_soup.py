"""A greedy soup of six fine-tunings of the small real CLIP on gtsrb: it must not be worse than the best of them.

    python tests/acceptance/greedy_soup.py

Run from the root of the checkout; about ten minutes on one core. The run is kept in runs/acceptance/greedy-soup, and
what is there is not run again.
"""

import json
from pathlib import Path

from transformers import CLIPModel, CLIPProcessor

from hf_paint import PaintTrainingArguments, PatchOptions, evaluate_tasks, get_task, patch_single


BASE = Path("../shared/models/tiny-clip")
RUN = Path("runs/acceptance/greedy-soup")
TASKS = Path(__file__).parent / "tasks"
INGREDIENTS = [{"learning_rate": [1e-4, 3e-4, 1e-3], "seed": [0, 1]}]


def main() -> int:
    """Run, print the accuracies, and return 1 if the soup is worse than the best ingredient on validation images."""
    if not BASE.exists():
        print("The reference data is not there: nothing was run.")
        return 0
    args = PaintTrainingArguments(
        output_dir=str(RUN),
        augmentation="none",
        max_steps=200,
        warmup_steps=0.1,
        weight_decay=0.0,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
        bf16=True,
        save_steps=100,
        logging_steps=100,
        disable_tqdm=True,
        use_cpu=True,
    )
    task, supported = (get_task(str(TASKS / f"{name}.yaml")) for name in ("gtsrb", "cifar10"))
    options = PatchOptions(method="greedy_soup", ingredients=INGREDIENTS, precision="bf16")
    result = patch_single(str(BASE), task, [supported], args, alphas=[0, 0.25, 0.5, 0.75, 1], options=options)
    scores = json.loads((RUN / "scores.json").read_text())
    on_validation = {name: scores[name] for name in sorted(path.name for path in (RUN / "thetas").iterdir())}
    on_test = {name: test_accuracy(RUN / "thetas" / name / "theta_1", task) for name in on_validation}
    for name, accuracy in on_validation.items():
        print(f"{name:32} validation {100 * accuracy:6.2f} %  test {100 * on_test[name]:6.2f} %")
    best = max(on_validation, key=lambda name: on_validation[name])
    soup = {split: result.curve.get(1.0, "patching", task.name, split).accuracy for split in ("validation", "test")}
    chosen = max(scores, key=lambda name: scores[name])
    print(f"greedy soup of {len(chosen.split(' + '))}: {chosen}")
    print(f"greedy soup: validation {100 * soup['validation']:.2f} %, test {100 * soup['test']:.2f} %")
    print(f"against the best ingredient on validation ({best}): {points(soup['validation'], on_validation[best])} on")
    print(f"validation, {points(soup['test'], on_test[best])} on test\n")
    print(result.curve.to_markdown("test", selected=result.alpha, intervals=True, end="soup"))
    return 0 if soup["validation"] >= on_validation[best] else 1


def test_accuracy(folder: Path, task) -> float:
    """Return the accuracy of a fine-tuned model on the test images."""
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    (result,) = evaluate_tasks(model, [task], processor=processor, split="test", precision="bf16")
    return result.accuracy


def points(accuracy: float, other: float) -> str:
    """Return a difference in points."""
    return f"{100 * (accuracy - other):+.2f} points"


if __name__ == "__main__":
    raise SystemExit(main())
