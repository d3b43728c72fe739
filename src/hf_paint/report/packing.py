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
DIGITS = 4
"""Decimals of a fraction that is shown in percent with two."""
MARKUP: dict[str, str | int | None] = {character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def first_json(report: Report) -> str:
    """Return the report without the keys in `LATE`, as JSON that is safe inside a script element."""
    runs = [run | {"tasks": [_without_late(task) for task in run["tasks"]]} for run in report["runs"]]
    return script_json(report | {"runs": runs})


def packed_rest(report: Report) -> str:
    """Return, for each run and task, the keys in `LATE`, as packed JSON.

    Counts by class change little from one point to the next, so each point holds the differences from the point
    before.
    """
    tasks = [[_late(task) for task in run["tasks"]] for run in report["runs"]]
    return pack(json.dumps(tasks, separators=(",", ":"), allow_nan=False))


def pack(text: str) -> str:
    """Return a text compressed with gzip and encoded in base 64."""
    return base64.b64encode(gzip.compress(text.encode(), compresslevel=7, mtime=0)).decode()


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
        "calibration": _rounded(task["calibration"]),
        "pictures": [picture | {"answers": _rounded(picture["answers"])} for picture in task["pictures"]],
    }


def _rounded(rows: object) -> object:
    """Round every number to what the page shows of it."""
    if isinstance(rows, list | tuple):
        return [_rounded(row) for row in rows]
    return round(rows, DIGITS) if isinstance(rows, float) else rows


def _differences(per_class: PerClass) -> Sequence[list[int] | None]:
    """Return the counts of each point minus those of the measured point before."""
    measured = [np.asarray(counts) for counts in per_class["correct"] if counts is not None]
    steps = iter([*measured[:1], *(after - before for before, after in pairwise(measured))])
    return [None if counts is None else next(steps).tolist() for counts in per_class["correct"]]
