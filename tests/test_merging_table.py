"""The table of merges on real images: its arithmetic, and the page that shows it."""

import json
import sys
from pathlib import Path

import pytest


sys.path.insert(0, str(Path(__file__).parent / "acceptance"))
import merging_figures


def run(row, seed, after, kept, alone):
    roles = {"a": "patching", "b": "patching", "keep": "supported"}
    counts = {task: [right, 100] for task, right in after.items()}
    found = {"row": row, "seed": seed, "alpha": 0.5, "within": 0.1, "roles": roles, "after": counts, "chosen": None}
    found |= {"before": {"a": [10, 100], "b": [30, 100]}, "gains": {"keep": [kept, None, None]}}
    return found | {"alone": {t: [right, 100] for t, right in alone.items()}, "cpu_seconds": 3.0, "peak_mib": 7.0}


def test_the_figures_are_those_written_out():
    runs = [
        run("joint", 0, {"a": 80, "b": 60}, -0.01, {"a": 100, "b": 80}),
        run("joint", 1, {"a": 90, "b": 70}, -0.03, {"a": 90, "b": 70}),
        run("ties", 0, {"a": 50, "b": 40}, 0.0, {}),
    ]
    lines = merging_figures.render({"runs": runs}).splitlines()
    rows = {cells[1].strip(): [cell.strip() for cell in cells[2:-1]] for cells in (x.split("|") for x in lines)}
    # means 70 and 80: their standard deviation is 7.07, and 12.706 * 7.07 / sqrt(2) = 63.53
    assert rows["joint"][2] == "75.0 ± 63.5"
    # 80 / 100 and 60 / 80 for the first seed, 100 % for the second: 77.5 and 100
    assert rows["joint"][3] == "88.8 ± 142.9"
    assert rows["joint"][4] == "-2.0 ± 12.7"
    assert rows["ties"][2:5] == ["45.0", "50.0", "+0.0"]
    assert rows["ties"][:2] == ["0.5", "0.1"]
    assert list(rows)[-2:] == ["joint", "ties"]
    # two binomial proportions of 100 images: 1.96 * sqrt((.5 * .5 + .4 * .6) / 100) / 2 = 6.9 points
    assert float(rows["ties"][5].removeprefix("± ")) == pytest.approx(6.9, abs=0.5)


def test_the_page_shows_the_recorded_figures():
    text = merging_figures.DOCS.read_text(encoding="utf-8")
    shown = text.partition(merging_figures.BEGIN)[2].partition(merging_figures.END)[0]
    figures = merging_figures.FIGURES
    assert shown == (merging_figures.section(json.loads(figures.read_text())) if figures.exists() else "")
