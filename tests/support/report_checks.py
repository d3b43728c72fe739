"""What the contents of the report of any run must keep, checked against the files of the run."""

import json
from math import isclose
from pathlib import Path

from hf_paint.report.building import report_of


def checked_report(folder):
    """Return the contents of the report of one run, after comparing its numbers with `results.jsonl`."""
    report = report_of([folder])
    text = json.dumps(report, allow_nan=False)
    assert str(Path(folder).parent) not in text  # neither the run's place nor its base's
    (run,) = report["runs"]
    lines = [json.loads(line) for line in (Path(folder) / "results.jsonl").read_text().splitlines()]
    measured = {(key_of(line["alpha"]), line["task"], line["split"]): line for line in lines}
    points = [key_of(point["coefficients"] or point["alpha"]) for point in run["points"]]
    assert len({*points}) == len(points)
    assert run["zero_shot"] == points.index("0.0")
    for task in run["tasks"]:
        for i, point in enumerate(points):
            line = measured.get((point, task["name"], task["split"]))
            accuracy, gain = task["accuracy"][i], task["gain"][i]
            assert (accuracy is None) == (line is None)
            if line is not None:
                before = measured["0.0", task["name"], task["split"]]
                assert accuracy["value"] == line["correct"] / line["total"]
                assert isclose(gain["value"], accuracy["value"] - before["accuracy"], abs_tol=1e-12)
                assert task["exact"][i] == line["exact"]
                assert task["metrics"]["loss"][i] == line["loss"]
        check_details(task)
    check_means(run)
    check_choice(run, points, Path(folder) / "selection.json")
    return report


def check_details(task):
    """Counts by class and bins of confidence add up to the accuracy."""
    for i, accuracy in enumerate(task["accuracy"]):
        counts = task["per_class"] and task["per_class"]["correct"][i]
        if counts:
            assert isclose(sum(counts) / sum(task["per_class"]["total"]), accuracy["value"])
        bins = task["calibration"] and task["calibration"][i]
        if bins:
            images = sum(n for n, _, _ in bins)
            assert isclose(sum(n * share for n, _, share in bins) / images, accuracy["value"], abs_tol=1e-9)
            ece = sum(n * abs(confidence - share) for n, confidence, share in bins) / images
            assert isclose(ece, task["metrics"]["ece"][i], abs_tol=1e-6)
    for picture in task["pictures"]:
        for best, correct in zip(picture["answers"], picture["correct"], strict=True):
            assert best is None or correct == (best[0][0] in picture["labels"])


def check_means(run):
    for role in ("patching", "supported"):
        own = [task for task in run["tasks"] if task["role"] == role]
        shown = [task for task in own if task["split"] == run["split"]] or own
        for i, mean in enumerate(run["means"][role]):
            values = [task["accuracy"][i] for task in shown]
            known = bool(values) and None not in values
            assert (mean is not None) == known
            assert not known or isclose(mean, sum(value["value"] for value in values) / len(values))


def check_choice(run, points, path):
    selection = json.loads(path.read_text()) if path.exists() else None
    if selection is None:
        assert run["chosen"] is None
    elif points[run["chosen"]] == "0.0":
        alpha = selection["alpha"]
        assert not any(alpha.values() if isinstance(alpha, dict) else [alpha])
    else:
        assert points[run["chosen"]] == key_of(selection["alpha"])


def key_of(alpha):
    """An alpha as text, the same for a number and for equal coefficients."""
    if not isinstance(alpha, dict):
        return str(float(alpha))
    return json.dumps({name: float(value) for name, value in sorted(alpha.items())})
