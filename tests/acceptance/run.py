"""`make acceptance`: long runs on the reference data beside the checkout, and tables of their results.

    python tests/acceptance/run.py [--jobs 2] [--sections mnist gtsrb]

Run from the root of the checkout. Finished runs in runs/acceptance are reused. When a section is done, its tables, and
whether it meets its target, are written to tests/acceptance/results.json, which `python docs/measured.py` shows.
"""

import argparse
import io
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from functools import partial
from pathlib import Path

import case_studies
import strategies
from reference import compare
from speed import FLAGS, MACHINE

from hf_paint import AlphaCurve, get_task


HERE = Path(__file__).parent
RUNS = Path("runs/acceptance")
RESULTS = HERE / "results.json"
SEEDS = (0, 1, 2)
TARGETS = {"mnist": 25.0, "gtsrb": 3.0}
MAX_LOSS = 1.0
Runs = Sequence[tuple[str, int | None]]
"""Recipes, with their seeds."""


def main() -> int:
    """Run the sections and print their tables; the exit code is 1 if one misses its target."""
    sections: dict[str, tuple[Runs, Callable[[], bool | None]]] = {
        "reference run": ([("reference_run", None)], report_reference),
        **{task: ([(f"tiny_clip_{task}", seed) for seed in SEEDS], partial(report_task, task)) for task in TARGETS},
        "strategies": ([(f"tiny_clip_{name}", None) for name in strategies.STRATEGIES], report_strategies),
        "broad transfer": ([], report_broad_transfer),
        "case studies": ([], case_studies.main),
        "disturbed pushes": ([], report_pushes),
    }
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time, each on its share of the cores")
    parser.add_argument("--sections", nargs="*", choices=sections, default=list(sections), help="all by default")
    given = parser.parse_args()
    if not Path("../shared").exists():
        print("The reference data is not there: nothing was run.")
        return 0
    met = []
    with ThreadPoolExecutor(given.jobs) as pool:
        started = {
            name: [pool.submit(patch, *run, jobs=given.jobs) for run in sections[name][0]] for name in given.sections
        }
        for name, runs in started.items():
            for run in runs:
                run.result()
            met.append(record(name, sections[name][1], order=list(sections)))
    return 0 if all(met) else 1


def record(name: str, report: Callable[[], bool | None], *, order: Sequence[str]) -> bool:
    """Print a section's report and write it to `results.json`; return whether it meets its target, if there is one."""
    with redirect_stdout(io.StringIO()) as text:
        met = report() is not False
    print(text.getvalue(), flush=True)
    about = {"date": time.strftime("%Y-%m-%d"), "machine": MACHINE, "python": platform.python_version()}
    found = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found[name] = {"about": about, "met": met, "report": text.getvalue()}
    in_order = {section: found.get(section) for section in order}  # None: not run yet
    RESULTS.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")
    return met


def patch(recipe: str, seed: int | None, *, jobs: int) -> None:
    """Run one recipe with `hf-paint patch`; its output goes to a log file."""
    output = run_folder(recipe, seed)
    output.parent.mkdir(parents=True, exist_ok=True)
    flags = ["--output_dir", str(output), *(["--seed", str(seed)] if seed is not None else [])]
    flags += FLAGS if recipe.startswith("tiny_clip") else []
    command = [sys.executable, "-m", "hf_paint.cli", "patch", "--config", str(HERE / f"{recipe}.yaml"), *flags]
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    with output.with_suffix(".log").open("w") as log:
        subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": threads}, stdout=log, stderr=log, check=True)
    print(f"done: {output}", flush=True)


def run_folder(recipe: str, seed: int | None) -> Path:
    """Return a run's folder."""
    return RUNS / (recipe if seed is None else f"{recipe}-seed-{seed}")


def report_reference() -> bool:
    """Print the differences between our run and the reference."""
    task = get_task(HERE / "tasks" / "reference_mnist.yaml")
    deviations = compare(run_folder("reference_run", None), Path("../shared/oracles/reference_run"), task)
    print("\n## Reference run: largest difference\n\n| what | found | allowed |\n| --- | ---: | ---: |")
    for name, found, allowed in deviations.rows():
        print(f"| {name} | {found:.2e} | {allowed:.0e} |")
    return all(found <= allowed for _, found, allowed in deviations.rows())


def report_task(task: str) -> bool:
    """Print the curve for each seed with its intervals, and the gains at the chosen alphas."""
    chosen = []
    for seed in SEEDS:
        curve = AlphaCurve.from_run(run_folder(f"tiny_clip_{task}", seed))
        alpha = curve.select("supported_within", tolerance=0.01)
        print(f"\n## {task}, seed {seed}: test accuracy, gains over alpha 0 in points with 95 % paired intervals\n")
        print(curve.to_markdown("test", selected=alpha, intervals=True))
        chosen.append((seed, alpha, curve.gains(alpha, "test")))
    print(f"\n## {task}: at the alpha chosen on validation by supported_within 0.01\n")
    print("| seed | alpha | patching gain | supported gain |\n| ---: | ---: | ---: | ---: |")
    for seed, alpha, gains in chosen:
        cells = (f"{100 * g.gain:+.2f} ({100 * g.low:+.2f} to {100 * g.high:+.2f})" for g in gains)
        print(f"| {seed} | {alpha:.2f} | {' | '.join(cells)} |")
    patching, supported = (100 * statistics.median(g[i].gain for _, _, g in chosen) for i in (0, 1))
    print(f"| median | | {patching:+.2f} (target {TARGETS[task]:+.0f}) | {supported:+.2f} (target {-MAX_LOSS:+.0f}) |")
    return patching >= TARGETS[task] and supported >= -MAX_LOSS


def report_strategies() -> bool:
    """Print how the strategies compare."""
    return strategies.report(RUNS)


def report_broad_transfer() -> None:
    """Patch on each half of the digits and print the accuracy on the other half; there is no target."""
    import broad_transfer

    broad_transfer.main()


def report_pushes() -> bool:
    """Push to a Hub with every fault at every stage, kill twenty pushes midway, and print the outcomes."""
    print("\n## Pushes that were disturbed\n")
    tests = str(HERE.parent / "hub" / "test_push_faults.py")
    command = [sys.executable, "-m", "pytest", "-q", "-s", "--no-header", tests]
    environment = os.environ | {"HF_PAINT_KILLS": "20"}
    finished = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=False)
    print("\n".join(line for line in finished.stdout.splitlines() if not line.startswith(".")))  # a dot for each test
    return finished.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
