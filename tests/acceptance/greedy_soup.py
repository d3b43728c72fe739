"""A greedy soup of six small real CLIPs fine-tuned on gtsrb; it must match or beat the best of them.

    python tests/acceptance/greedy_soup.py [--max_steps 200]

Run from the root of the checkout; about eight minutes on one idle core. A finished run in runs/acceptance is reused.
"""

import argparse
import json
from pathlib import Path

from speed import BF16, PRECISION, USE_CPU
from transformers import CLIPModel, CLIPProcessor

from hf_paint import PaintTrainingArguments, PatchOptions, evaluate_tasks, get_task, patch_single


BASE = Path("../shared/models/tiny-clip")
TASKS = Path(__file__).parent / "tasks"
INGREDIENTS = [{"learning_rate": [1e-4, 3e-4, 1e-3], "seed": [0, 1]}]


def main() -> int:
    """Run, print the accuracies, and return 1 if the soup is worse than the best ingredient on validation images."""
    if not BASE.exists():
        print("The reference data is not there: nothing was run.")
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max_steps", type=int, default=200, help="steps of each fine-tuning")
    max_steps = parser.parse_args().max_steps
    run = Path(f"runs/acceptance/greedy-soup-{max_steps}")
    args = PaintTrainingArguments(
        output_dir=str(run),
        augmentation="none",
        max_steps=max_steps,
        warmup_steps=0.1,
        weight_decay=0.0,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=64,
        bf16=BF16,
        save_steps=100,
        logging_steps=100,
        disable_tqdm=True,
        use_cpu=USE_CPU,
    )
    task = get_task(str(TASKS / "gtsrb.yaml"))
    options = PatchOptions(method="greedy_soup", ingredients=INGREDIENTS, precision=PRECISION)
    result = patch_single(str(BASE), task, [], args, alphas=[1.0], selection="none", options=options)
    scores = json.loads((run / "scores.json").read_text())
    ingredients = {name: scores[name] for name in sorted(path.name for path in (run / "thetas").iterdir())}
    for name, accuracy in ingredients.items():
        print(f"{name:32} validation {100 * accuracy:.2f} %")
    best = max(ingredients, key=lambda name: ingredients[name])
    soup = {split: result.curve.get(1.0, "patching", task.name, split).accuracy for split in ("validation", "test")}
    alone = {"validation": ingredients[best], "test": test_accuracy(run / "thetas" / best / "theta_1", task)}
    print(f"the best ingredient is {best}, the soup is {max(scores, key=lambda name: scores[name])}")
    for split in soup:
        gain = 100 * (soup[split] - alone[split])
        print(f"{split}: best {100 * alone[split]:.2f} %, soup {100 * soup[split]:.2f} % ({gain:+.2f} points)")
    return 0 if soup["validation"] >= alone["validation"] else 1


def test_accuracy(folder: Path, task) -> float:
    """Return a fine-tuned model's accuracy on the test images."""
    model, processor = CLIPModel.from_pretrained(folder), CLIPProcessor.from_pretrained(folder)
    (result,) = evaluate_tasks(model, [task], processor=processor, split="test", precision=PRECISION)
    return result.accuracy


if __name__ == "__main__":
    raise SystemExit(main())
