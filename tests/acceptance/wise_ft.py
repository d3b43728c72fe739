"""WiSE-FT on the small real CLIP: accuracy on CIFAR-10 and corrupted copies of it, end to end and head alone.

    python tests/acceptance/wise_ft.py [--max_steps 600]

Run from the root of the checkout. Finished runs in runs/acceptance are reused.
"""

import argparse
from pathlib import Path

from hf_paint import AlphaCurve
from hf_paint.cli.run_recipe import run_recipe


RECIPE = Path(__file__).with_suffix(".yaml")
BASE = Path("../shared/models/tiny-clip")
VARIANTS = {"end-to-end": [], "head-alone": ["--freeze_tower", "true", "--learning_rate", "1e-3"]}


def main() -> None:
    """Run both variants and print their tables."""
    if not BASE.exists():
        print("The reference data is not there: nothing was run.")
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max_steps", type=int, default=600, help="steps of each training")
    max_steps = parser.parse_args().max_steps
    for name, flags in VARIANTS.items():
        run = Path(f"runs/acceptance/wise-ft-{name}-{max_steps}")
        run_recipe(str(RECIPE), [*flags, "--max_steps", str(max_steps), "--output_dir", str(run)])
        print(f"\n## WiSE-FT, {name}: test accuracy in percent\n")
        report(AlphaCurve.from_run(run))


def report(curve: AlphaCurve) -> None:
    """Print the reference accuracy and the mean shift accuracy at alpha 0, 0.5, 1 and the best alpha."""
    best = max(curve.alphas, key=lambda alpha: curve.mean_accuracy(alpha, "patching", "validation"))
    points = {"zero-shot": 0.0, "fine-tuned": 1.0, f"best on validation, alpha {best:g}": best, "alpha 0.5": 0.5}
    print("| weights | reference | mean shift |\n| --- | ---: | ---: |")
    for label, alpha in points.items():
        print(f"| {label} | {' | '.join(f'{100 * float(found):.2f}' for found in accuracies(curve, alpha))} |")
    beaten = [half > end for half, end in zip(accuracies(curve, 0.5), accuracies(curve, 1.0), strict=True)]
    print(
        f"\nalpha 0.5 beats fine-tuning on the reference: {beaten[0]}, under shift: {beaten[1]}, both: {all(beaten)}"
    )


def accuracies(curve: AlphaCurve, alpha: float) -> list:
    """Return the reference accuracy and the mean accuracy over its shifts."""
    return [curve.mean_accuracy(alpha, role, "test") for role in ("patching", "shift")]


if __name__ == "__main__":
    main()
