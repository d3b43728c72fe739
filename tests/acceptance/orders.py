"""How much the order of the tasks matters in sequential patching, with and without `merge: projection`.

    python tests/acceptance/orders.py [--output runs/acceptance/orders]
    python tests/acceptance/orders.py --docs      write the recorded figures into docs/how_to/strategies.md

Run from the root of the checkout. Three tasks are patched into one small real CLIP in three orders, with CIFAR-10
kept. Finished runs in the output folder are reused. It takes about ten minutes of one core.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from merging_table import RULE, SHARED, arguments, shared_task
from photo_defects import make_task
from speed import PRECISION

from hf_paint import AlphaCurve, PatchOptions, patch_sequential
from hf_paint.results.alphas import Coefficients
from hf_paint.results.tables import markdown


WAYS = ("sequential", "projection")
STEPS, IMAGES, ORDERS, SEED = 60, 200, 3, 0
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]
FIGURES = Path(__file__).with_name("orders.json")
DOCS = Path(__file__).parents[2] / "docs/how_to/strategies.md"
BEGIN = "<!-- tests/acceptance/orders.py --docs writes the measured table between these lines -->\n"
END = "<!-- end of the table -->"
SECTION = """
{table}

*MNIST, GTSRB and a task of eight kinds of photo defects, patched into a CLIP of 3.2 million
parameters in three random orders, with CIFAR-10 to keep. Accuracies in percent after the last step, on up to {images}
test images per task. Each task is fine-tuned for {steps} steps; each step chooses its alpha by the rule `{rule}`. (The
default rule, which allows a loss of one point on CIFAR-10, stays at alpha 0 in every step of this small model.) One
seed; the standard deviation is over the orders. Made by `python tests/acceptance/orders.py` in {minutes:.0f} minutes
of CPU time.*

"""


def main() -> int:
    """Run what is missing, print the table and write its figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/acceptance/orders"))
    parser.add_argument("--docs", action="store_true", help="only write the recorded figures into the page")
    parsed = parser.parse_args()
    if parsed.docs:
        write_docs()
        return 0
    if not SHARED.exists():
        print("The reference data is not there: nothing was run.")
        return 0
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    found = {way: measured(way, parsed.output) for way in WAYS}
    minutes = sum(each["cpu_seconds"] for each in found.values()) / 60
    settings = {"steps": STEPS, "images": IMAGES, "rule": RULE, "minutes": minutes}
    FIGURES.write_text(json.dumps({"settings": settings, "ways": found}, indent=1) + "\n")
    print(render(found))
    return 0


def measured(way: str, output: Path) -> dict[str, Any]:
    """Patch in every order in one way, unless that was done, and return what each order reached."""
    path = output / f"{way}.json"
    if path.exists():
        found: dict[str, Any] = json.loads(path.read_text())
        return found
    tasks = [shared_task("mnist"), shared_task("gtsrb")]
    tasks.append(make_task(SHARED / "data/imagenet_sample/test.parquet", output / "photo-defects"))
    options = PatchOptions(num_orders=ORDERS, merge=way, max_eval_images=IMAGES, num_examples=0, precision=PRECISION)
    args, start = arguments(output / way, SEED, max_steps=STEPS), time.process_time()
    model, kept = str(SHARED / "models/tiny-clip"), [shared_task("cifar10")]
    patch_sequential(model, tasks, kept, args, alphas=ALPHAS, selection=RULE, options=options)
    seconds = time.process_time() - start
    orders = [reached(AlphaCurve.from_run(output / way / f"order-{n}")) for n in range(1, ORDERS + 1)]
    path.write_text(json.dumps({"cpu_seconds": seconds, "orders": orders}, indent=1))
    print(f"{way}: {seconds:.0f} s of CPU time", flush=True)
    return {"cpu_seconds": seconds, "orders": orders}


def reached(history: AlphaCurve) -> dict[str, Any]:
    """Return the alphas of the steps in their order, and task -> test accuracy before and after them."""
    last = history.alphas[-1]
    if not isinstance(last, Coefficients):
        raise TypeError(f"The last step has no coefficients: {last}")
    accuracies = {
        task: [float(record.accuracy) for alpha in (0.0, last) if (record := history.get(alpha, role, task, "test"))]
        for role in ("patching", "supported")
        for task in history.tasks[role]
    }
    return {"alphas": dict(last), "supported": history.tasks["supported"], "accuracies": accuracies}


def render(ways: Mapping[str, Any]) -> str:
    """Return the table in Markdown: a row for each order, and the mean over the orders, of each way."""
    first = next(iter(ways.values()))["orders"][0]
    [kept] = first["supported"]
    tasks = sorted(task for task in first["accuracies"] if task != kept)
    before = {task: values[0] for task, values in first["accuracies"].items()}
    rows = [["`merge`", "order, with the alpha of each step", *tasks, "mean of these", kept]]
    rows.append(["", "(before patching)", *cells(before, tasks, kept)])
    for way, found in ways.items():
        after = [{task: values[1] for task, values in each["accuracies"].items()} for each in found["orders"]]
        for each, accuracies in zip(found["orders"], after, strict=True):
            order = ", ".join(f"{task} {alpha:g}" for task, alpha in each["alphas"].items())
            rows.append([f"`{way}`", order, *cells(accuracies, tasks, kept)])
        columns = [[100 * value for value in column(after, tasks, name)] for name in (*tasks, None, kept)]
        spread = [f"{statistics.mean(values):.1f} ± {statistics.stdev(values):.1f}" for values in columns]
        rows.append([f"`{way}`", "mean and standard deviation", *spread])
    return markdown(rows, text_columns=2)


def cells(accuracies: Mapping[str, float], tasks: Sequence[str], kept: str) -> list[str]:
    """Return the accuracies on the tasks, their mean, and that on the kept task."""
    return [f"{100 * value:.1f}" for value in (*map(accuracies.get, tasks), mean(accuracies, tasks), accuracies[kept])]


def column(after: Sequence[Mapping[str, float]], tasks: Sequence[str], name: str | None) -> list[float]:
    """Return the accuracy in each order on one task or, without a name, the mean over the patched ones."""
    return [mean(accuracies, tasks) if name is None else accuracies[name] for accuracies in after]


def mean(accuracies: Mapping[str, float], tasks: Sequence[str]) -> float:
    """Return the mean over the tasks."""
    return statistics.mean(accuracies[task] for task in tasks)


def write_docs() -> None:
    """Write the table of the recorded figures into the page."""
    figures = json.loads(FIGURES.read_text())
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    section = SECTION.format(table=render(figures["ways"]), **figures["settings"])
    DOCS.write_text(f"{before}{BEGIN}{section}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
