"""Joint, sequential and parallel patching of the small real CLIP on two tasks: gains, and distances to specialists."""

import json
from pathlib import Path

from hf_paint import AlphaCurve
from hf_paint.results.alphas import Coefficients, alpha_from_json, format_alpha


STRATEGIES = ("joint", "sequential", "parallel")
TASKS = ("mnist", "gtsrb")
MAX_DISTANCE = 3.0
"""How far joint fine-tuning may be from a specialised model, in points."""


def report(folder: Path) -> bool:
    """Print the gains and the distance from one model per task; return whether joint is close enough."""
    curves = {name: AlphaCurve.from_run(folder / f"tiny_clip_{name}") for name in STRATEGIES}
    chosen = {name: chosen_alpha(folder / f"tiny_clip_{name}") for name in STRATEGIES}
    ends = {"joint": curves["joint"], "sequential": AlphaCurve.from_run(folder / "tiny_clip_sequential/step-2")}
    for name, curve in curves.items():
        print(f"\n## {name}: test accuracy in percent, at the chosen point and around it\n")
        print(curve.to_markdown("test", selected=chosen[name], intervals=True))
    special = {task: accuracy(curves["parallel"], Coefficients({task: 1.0}), task) for task in TASKS}
    print("\n## Strategies, coefficients chosen on validation by supported_within 0.01, test images, in points\n")
    print("| strategy | coefficients | mean gain | supported gain | to the specialists | to them at the end |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    means = {}
    for name, curve in curves.items():
        gains = curve.gains(chosen[name], "test")
        means[name] = sum(100 * gain.gain for gain in gains if gain.role == "patching") / len(TASKS)
        [supported] = [100 * gain.gain for gain in gains if gain.role == "supported"]
        near = distances(curve, chosen[name], special)
        end = distances(ends[name], 1.0, special) if name in ends else {}
        cells = [format_alpha(chosen[name]), f"{means[name]:+.2f}", f"{supported:+.2f}", cell(near), cell(end)]
        print(f"| {name} | {' | '.join(cells)} |")
    ordered = means["joint"] >= means["sequential"] >= means["parallel"]
    print(f"\njoint >= sequential >= parallel: {'yes' if ordered else 'no'}")
    return min(distances(curves["joint"], 1.0, special).values()) >= -MAX_DISTANCE


def chosen_alpha(folder: Path) -> float | Coefficients:
    """Return a run's chosen alpha."""
    return alpha_from_json(json.loads((folder / "selection.json").read_text())["alpha"])


def accuracy(curve: AlphaCurve, alpha: float | Coefficients, task: str) -> float:
    """Return a test accuracy in percent."""
    return 100 * curve.get(alpha, "patching", task, "test").accuracy


def distances(curve: AlphaCurve, alpha: float | Coefficients, special: dict[str, float]) -> dict[str, float]:
    """Return task -> points above that task's specialised model."""
    return {task: accuracy(curve, alpha, task) - expected for task, expected in special.items()}


def cell(found: dict[str, float]) -> str:
    """Format distances as a table cell."""
    return ", ".join(f"{task} {distance:+.2f}" for task, distance in found.items()) or "-"
