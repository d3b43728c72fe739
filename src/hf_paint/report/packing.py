"""Put a report into its page: the numbers that are shown first as JSON, and the many others compressed."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from hf_paint.report.contents import PerClass, Report, Task


LATE = ("per_class", "calibration", "pictures")
"""What most of a report's bytes are, and what the first screen does not need."""
MARKUP = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def first_json(report: Report) -> str:
    """Return the report without the keys in `LATE`, as JSON that is safe inside a script element."""
    runs = [run | {"tasks": [_without_late(task) for task in run["tasks"]]} for run in report["runs"]]
    return script_json(report | {"runs": runs})


def packed(report: Report) -> str:
    """Return, for each run and task, the keys in `LATE`: JSON, compressed with gzip and encoded in base 64.

    Counts by class change little from one point to the next, so each point holds the differences from the point
    before.
    """
    tasks = [[_late(task) for task in run["tasks"]] for run in report["runs"]]
    text = json.dumps(tasks, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(text, compresslevel=7, mtime=0)).decode()


def script_json(value: object) -> str:
    """Return JSON in which no character can end a script element."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).translate(str.maketrans(MARKUP))


def _without_late(task: Task) -> Mapping[str, object]:
    has = {f"has_{key}": bool(task[key]) for key in LATE}  # type: ignore[literal-required]
    return {key: value for key, value in task.items() if key not in LATE} | has


def _late(task: Task) -> Mapping[str, object]:
    per_class = task["per_class"]
    return {
        "per_class": per_class and per_class | {"correct": _differences(per_class)},
        "calibration": task["calibration"],
        "pictures": task["pictures"],
    }


def _differences(per_class: PerClass) -> Sequence[list[int] | None]:
    """Return the counts of each point minus those of the measured point before."""
    measured = [np.asarray(counts) for counts in per_class["correct"] if counts is not None]
    steps = iter([*measured[:1], *(after - before for before, after in pairwise(measured))])
    return [None if counts is None else next(steps).tolist() for counts in per_class["correct"]]
