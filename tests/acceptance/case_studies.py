"""PAINT's case studies on small models: typographic attacks, counting, and visual question answering.

    python tests/acceptance/case_studies.py

Run from the root of the checkout. Finished runs in runs/acceptance are reused.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from speed import FLAGS, USE_CPU

from hf_paint import AlphaCurve
from hf_paint.results.alphas import alpha_from_json, format_alpha


HERE = Path(__file__).parent
RUNS = Path("runs/acceptance")
SCENES = Path("recipes/scenes")
STUDIES = {
    "typographic": HERE / "tiny_clip_typographic.yaml",
    "counting": SCENES / "counting.yaml",
    "questions": SCENES / "questions.yaml",
}
ATTACKED, CLEAN = ("patching", "cifar10-attack"), ("supported", "cifar10")
MIN_REGAINED, MAX_LOSS = 0.5, 1.0
"""The share of the accuracy lost to the attack that is to come back, and the clean accuracy it may cost, in points."""
MAX_MINUTES = 10.0
"""For each study, on two cores."""


def main() -> bool:
    """Run the three studies, print their tables, and return whether the targets are met."""
    if not Path("../shared").exists():
        print("The reference data is not there: nothing was run.")
        return True
    RUNS.mkdir(parents=True, exist_ok=True)
    if not Path("runs/scenes/questions.yaml").exists():
        subprocess.run([sys.executable, str(SCENES / "make_scenes.py")], check=True)
    met = []
    for name, recipe in STUDIES.items():
        minutes = patch(recipe, RUNS / f"case-{name}", FLAGS if name == "typographic" else [])
        print(f"\n## {name}: test images, accuracies and rates in percent\n")
        report(RUNS / f"case-{name}")
        print(f"\n{minutes['wall']:.1f} minutes, {minutes['cpu']:.1f} of CPU time; examples-*.png shows images")
        met.append(not USE_CPU or minutes["cpu"] / 2 <= MAX_MINUTES)
    return all([*met, report_aim(RUNS / "case-typographic")])


def patch(recipe: Path, output: Path, flags: list[str]) -> dict[str, float]:
    """Run a recipe on two threads unless the run exists; return the minutes it took."""
    taken = output.with_suffix(".json")
    if not taken.exists():
        flags = ["--config", str(recipe), "--output_dir", str(output), *flags]
        command = [sys.executable, "-m", "hf_paint.cli", "patch", *flags]
        start, before = time.perf_counter(), os.times()
        with output.with_suffix(".log").open("w") as log:
            environment = {"OMP_NUM_THREADS": "2"} | dict(os.environ)
            subprocess.run(command, env=environment, stdout=log, stderr=log, check=True)
        after = os.times()
        cpu = sum(getattr(after, kind) - getattr(before, kind) for kind in ("children_user", "children_system"))
        taken.write_text(json.dumps({"wall": (time.perf_counter() - start) / 60, "cpu": cpu / 60}))
    return json.loads(taken.read_text())


def report(run: Path) -> None:
    """Print every metric for every task, for the zero-shot, patched and fine-tuned models."""
    curve, selected = AlphaCurve.from_run(run), chosen(run)
    points = {"zero-shot": 0.0, f"patched (alpha {format_alpha(selected)})": selected, "fine-tuned": 1.0}
    print(f"| task | metric | {' | '.join(points)} |\n| --- | --- |{' ---: |' * len(points)}")
    for role, tasks in curve.tasks.items():
        for task in tasks:
            metrics = [curve.get(alpha, role, task, "test").metrics for alpha in points.values()]
            for name in [name for name in metrics[0] if name not in ("loss", "mean_per_class")]:
                scale = 1 if name == "mean_absolute_error" else 100
                cells = " | ".join(f"{scale * found[name]:.2f}" for found in metrics)
                print(f"| {task} ({role}) | {name.replace('_', ' ')} | {cells} |")


def report_aim(run: Path) -> bool:
    """Print how much of the accuracy lost to the attack is recovered by patching, and the cost on clean images."""
    curve = AlphaCurve.from_run(run)
    attacked, clean = (
        [100 * curve.get(alpha, *task, "test").accuracy for alpha in (0.0, chosen(run))] for task in (ATTACKED, CLEAN)
    )
    regained = (attacked[1] - attacked[0]) / (clean[0] - attacked[0])
    print(f"\nThe attack costs the zero-shot model {clean[0] - attacked[0]:.2f} points.")
    print(f"Of these come back: {100 * regained:.1f} % (aim: {100 * MIN_REGAINED:.0f} % or more)")
    print(f"Clean images: {clean[1] - clean[0]:+.2f} points (aim: {-MAX_LOSS:+.2f} or better)")
    return regained >= MIN_REGAINED and clean[1] - clean[0] >= -MAX_LOSS


def chosen(run: Path) -> float:
    """Return a run's chosen alpha."""
    return alpha_from_json(json.loads((run / "selection.json").read_text())["alpha"])


if __name__ == "__main__":
    sys.exit(0 if main() else 1)
