"""The table of `merging_table.py`, from its recorded figures."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_paint.results.tables import markdown


FIGURES = Path(__file__).with_name("merging_table.json")
DOCS = Path(__file__).parents[2] / "docs/how_to/merging.md"
BEGIN = "<!-- tests/acceptance/merging_table.py --docs writes the measured table between these lines -->\n"
END = "<!-- end of the table -->"
SECTION = """
## On a small real CLIP

`python tests/acceptance/merging_table.py` patches MNIST, GTSRB and a task of eight kinds of photo defects, such as
blurry and upside-down, into a CLIP with 3.2 million parameters, and keeps CIFAR-10. Each model is fine-tuned
for {steps} steps; `joint` takes as many per task. Alpha is chosen on up to {images} validation images per task by the
rule `{rule}`, and up to {images} test images per task are reported. Beside it stands the alpha that the default rule
would choose, which allows a loss of one point on CIFAR-10. Accuracies are in percent, means over {seeds} seeds with
95 % intervals; the interval of the images alone is that of one run. Time and memory leave out the fine-tuning of the
models that merges start from. A `/` separates the tasks, and a `;` the alphas that the seeds chose, where they differ.
Behind `auto` stand the merges that it took.

{table}

"""
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Number of seeds -> quantile of Student's distribution for a 95 % interval of their mean."""
HEADER = (
    *("merge", "alpha", "by the default rule", "mean accuracy", "normalised", "change on the supported task"),
    *("images alone", "CPU time, s", "memory, MiB"),
)
NUM_RESAMPLES = 2000
Run = Mapping[str, Any]


def render(figures: Mapping[str, Any]) -> str:
    """Return the table in Markdown: one row per merge, in the order of the first seed's runs."""
    runs: list[Run] = figures["runs"]
    alone = {run["seed"]: run["alone"] for run in runs if run["alone"]}
    by_row: dict[str, list[Run]] = {}
    for run in runs:
        by_row.setdefault(run["row"], []).append(run)
    order = sorted(by_row, key=lambda row: -statistics.mean(_mean(run) for run in by_row[row]))
    first = next(iter(by_row.values()))
    rows = [list(HEADER), *_references(first, alone)]
    return markdown([*rows, *(_row(row, by_row[row], alone) for row in order)], text_columns=3)


def _references(runs: Sequence[Run], alone: Mapping[int, Any]) -> list[list[str]]:
    """Return the rows of the model before patching and of one model per task."""
    before = [100 * _accuracy(run["before"], _patching(run)) for run in runs]
    shares = [100 * _normalised(run["before"], alone[run["seed"]]) for run in runs if run["seed"] in alone]
    special = [100 * _accuracy(one, list(one)) for one in alone.values()]
    return [
        ["(before patching)", "0", "", _interval(before), _interval(shares), "", "", "", ""],
        ["(one model per task)", "1", "", _interval(special), "100.0", "", "", "", ""],
    ]


def _row(name: str, runs: Sequence[Run], alone: Mapping[int, Any]) -> list[str]:
    shares = [100 * _normalised(run["after"], alone[run["seed"]]) for run in runs if run["seed"] in alone]
    [kept] = {task for run in runs for task, role in run["roles"].items() if role == "supported"}
    chosen = sorted({run["chosen"] for run in runs if run["chosen"]})
    return [
        f"{name} ({', '.join(chosen)})" if chosen else name,
        _alphas(run["alpha"] for run in runs),
        _alphas(run["within"] for run in runs),
        _interval([100 * _mean(run) for run in runs]),
        _interval(shares),
        _interval([100 * run["gains"][kept][0] for run in runs], sign="+"),
        f"± {statistics.mean(100 * _half_width(run) for run in runs):.1f}",
        f"{statistics.mean(run['cpu_seconds'] for run in runs):.0f}",
        f"{max(run['peak_mib'] for run in runs):.0f}",
    ]


def _alphas(alphas: Iterable[float | Mapping[str, float]]) -> str:
    """Return the different alphas of the seeds."""
    return "; ".join(dict.fromkeys(map(_alpha, alphas)))


def _alpha(alpha: float | Mapping[str, float]) -> str:
    return "/".join(f"{value:g}" for value in (alpha.values() if isinstance(alpha, Mapping) else [alpha]))


def _patching(run: Run) -> list[str]:
    return [task for task, role in run["roles"].items() if role == "patching"]


def _mean(run: Run) -> float:
    return _accuracy(run["after"], _patching(run))


def _accuracy(counts: Mapping[str, Sequence[int]], tasks: Sequence[str]) -> float:
    return statistics.mean(counts[task][0] / counts[task][1] for task in tasks)


def _normalised(counts: Mapping[str, Sequence[int]], alone: Mapping[str, Sequence[int]]) -> float:
    """Return the mean over the tasks of the accuracy as a share of the fine-tuned model's."""
    return statistics.mean((counts[t][0] / counts[t][1]) / (right / total) for t, (right, total) in alone.items())


def _half_width(run: Run) -> float:
    """Return half the width of the 95 % bootstrap interval of the mean accuracy over the images of one run."""
    random, drawn = np.random.default_rng(0), []
    for task in _patching(run):
        right, total = run["after"][task]
        drawn.append(random.binomial(total, right / total, NUM_RESAMPLES) / total)  # counts of resampled images
    low, high = np.quantile(np.mean(drawn, axis=0), [0.025, 0.975])
    return float(high - low) / 2


def _interval(values: Sequence[float], *, sign: str = "") -> str:
    """Return a mean with half the width of its 95 % interval over the seeds."""
    if not values:
        return ""
    mean = f"{statistics.mean(values):{sign}.1f}"
    if len(values) < 2:
        return mean
    return f"{mean} ± {T_95[len(values)] * statistics.stdev(values) / math.sqrt(len(values)):.1f}"


def write_docs() -> None:
    """Write the table of the recorded figures into the page."""
    before, _, rest = DOCS.read_text(encoding="utf-8").partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCS.write_text(f"{before}{BEGIN}{section(json.loads(FIGURES.read_text()))}{END}{after}", encoding="utf-8")


def section(figures: Mapping[str, Any]) -> str:
    """Return the part of the page that shows the figures."""
    seeds = len({run["seed"] for run in figures["runs"]})
    return SECTION.format(table=render(figures), seeds=seeds, **figures["settings"])
