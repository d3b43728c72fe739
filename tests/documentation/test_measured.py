"""The page Measured shows what the commands recorded."""

import json
import sys
from pathlib import Path


sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import measured


ROOT = measured.ROOT


def test_the_page_is_made_of_the_recorded_files():
    """After a command has written its file, `python docs/measured.py` writes the page again."""
    assert measured.PAGE.read_text(encoding="utf-8") == measured.page()


def test_every_figure_of_the_gpu_and_every_loss_is_on_the_page():
    text = measured.PAGE.read_text(encoding="utf-8")
    figures = json.loads((ROOT / "tests/benchmarks/results/h100.json").read_text())["sections"]
    for figure in (figure for part in figures.values() for figure in part["figures"]):
        assert f"| {figure['name']} |" in text
    tallies = json.loads((ROOT / "tests/torture/results.json").read_text())["parts"]
    missed = text.partition("## Missed")[2].partition("\n## ")[0]
    for tally in (tally for part in tallies.values() for tally in part):
        assert all(line in missed for line in tally["lost"])


def row(**keys):
    shown = {
        "job": "sweep",
        "plain": "9 s",
        "ours": "3 s",
        "ratio": "3.00 (2.9 to 3.1)",
        "memory": "",
        "difference": "0",
    }
    return shown | {"target": "at least 4x", "met": False} | keys


def test_what_misses_its_target_comes_first():
    about = {"date": "2026-01-02", "machine": "2 cores"}
    rows = [row(), row(job="head", met=True), row(job="pixels", met=None)]
    found = {"sweep": {"about": about, "rows": rows}}
    text, missed = measured.benchmarks(found, "## `make benchmark`", "cpu.json")
    assert missed == [
        "`make benchmark`: sweep: 3 s, ratio to the plain way 3.00 (2.9 to 3.1), difference 0; target: at least 4x"
    ]
    assert "date 2026-01-02, machine 2 cores." in text
    assert "| sweep | 9 s | 3 s | 3.00 (2.9 to 3.1) |  | 0 | at least 4x | **NO** |" in text
    table = "| seed | alpha | gain |\n| --- |\n| 0 | 0.5 | +2.0 |\n| median | | +2.0 (target +3) |\n"
    part = {"about": about, "report": f"\n## mnist, seed 0\n\n{table}"}
    report = {"mnist": part | {"met": False}, "gtsrb": part | {"met": True}, "strategies": None}
    text, missed = measured.acceptance(report, "## `make acceptance`", "results.json")
    assert missed == ["`make acceptance`: mnist: median: gain +2.0 (target +3)"]
    report = {"strategies": {"about": about, "report": "## All\n\n| a |\n", "met": False}}
    assert measured.acceptance(report, "##", "results.json").missed == [
        "`make acceptance`: strategies: see its tables"
    ]
    assert "### mnist, seed 0" in text
    assert "Not recorded for this version: strategies." in text


def test_only_long_tables_are_folded():
    short, long = ("| a |\n| --- |\n" + "| 1 |\n" * rows for rows in (measured.LONG, measured.LONG + 1))
    assert measured.folded(f"## One\n\n{short}\n## Two\n\n{short}") == f"## One\n\n{short}\n## Two\n\n{short}".strip()
    text = measured.folded(f"{long}\nafter")
    assert text.startswith('<details markdown="1">\n<summary>26 rows</summary>\n\n| a |\n')
    assert text.endswith("| 1 |\n\n</details>\n\nafter")
