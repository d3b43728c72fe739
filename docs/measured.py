"""Write docs/measured.md from the files that the commands of the page write.

    python docs/measured.py

`make docs-figures` runs it, too.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hf_paint.results.tables import markdown


ROOT = Path(__file__).parents[1]
PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Measured

What hf_paint reaches, by the commands that measure it. Each command writes a JSON file, and `python docs/measured.py`
makes this page from these files. What misses its target comes first.
"""
ELSEWHERE = """\
## On other pages

| what | command | page |
| --- | --- | --- |
| merges of three tasks on a small CLIP | `python tests/acceptance/merging_table.py` | [merging](how_to/merging.md) |
| ways to keep what a model knew | `python tests/acceptance/keeping.py` | [keeping](how_to/keeping.md) |
| alpha without labels | `python tests/acceptance/without_labels.py` | [rules](explanation/rules.md#without-labels) |
| three orders of sequential tasks | `python tests/acceptance/orders.py` | [strategies](how_to/strategies.md) |
"""
MET = {True: "yes", False: "**NO**", None: ""}
LONG = 25
"""Rows from which on a table is folded."""
Found = Mapping[str, Any]


class Section(NamedTuple):
    """A part of the page, and a line for each target that it misses."""

    text: str
    missed: list[str]


def page() -> str:
    """Return the text of the page."""
    sections = [
        show(read(f"tests/{path}"), f"## `make {command}`\n\n{what}", f"tests/{path}")
        for command, what, path, show in COMMANDS
    ]
    missed = [f"- {line}" for section in sections for line in section.missed]
    lines = missed or ["Nothing that is recorded misses its target."]
    return "\n".join([INTRODUCTION, "## Missed\n", *lines, "", *(section.text for section in sections), ELSEWHERE])


def read(path: str) -> Found | None:
    """Return what a command recorded, or None if there is no record of it."""
    file = ROOT / path
    return json.loads(file.read_text(encoding="utf-8")) if file.exists() else None


def benchmarks(found: Found | None, head: str, path: str) -> Section:
    """Show the rows of `make benchmark`."""
    if found is None:
        return unrecorded(head, path)
    header = [
        "job",
        "plain way",
        "hf_paint",
        "ratio, median (min to max)",
        "peak memory",
        "difference",
        "target",
        "met",
    ]
    keys = ("job", "plain", "ours", "ratio", "memory", "difference", "target")
    text, missed = [f"{head}\n"], []
    for script, part in found.items():
        rows = part["rows"]
        shown = [[*(str(row[key]) for key in keys), MET[row["met"]]] for row in rows]
        text.append(f"### {script}\n\n{about(part)}\n\n{markdown([header, *shown], text_columns=1)}\n")
        missed += [f"`make benchmark`: {missed_row(row)}" for row in rows if row["met"] is False]
    return Section("\n".join(text), missed)


def missed_row(row: Found) -> str:
    """Say what a row of `make benchmark` reached, beside its target."""
    difference = f", difference {row['difference']}" if row["difference"] else ""
    return f"{row['job']}: {row['ours']}, ratio to the plain way {row['ratio']}{difference}; target: {row['target']}"


def gpu(found: Found | None, head: str, path: str) -> Section:
    """Show the figures of `make gpu`."""
    if found is None:
        return unrecorded(head, path)
    header = ["figure", "measured", "beside", "predicted", "target", "met", "note"]
    text, missed = [f"{head}\n\n{about(found, 'machine')}\n"], []
    for name, part in found["sections"].items():
        rows = [
            [
                *(figure["name"], f"{number(figure['value'])} {figure['unit']}", number(figure["beside"])),
                *(number(figure["predicted"]), figure["target"], MET[figure["met"]], figure["note"]),
            ]
            for figure in part["figures"]
        ]
        text.append(f"### {name}\n\nDate {part['date']}.\n\n{markdown([header, *rows], text_columns=1)}\n")
        for figure in part["figures"]:
            if figure["met"] is False:
                found = ", ".join(filter(None, [f"{number(figure['value'])} {figure['unit']}", figure["note"]]))
                missed.append(f"`make gpu`: {figure['name']}: {found}; target: {figure['target']}")
        if "error" in part:
            missed.append(f"`make gpu`: section {name}: {part['error'].splitlines()[0].rstrip(': ')}")
    return Section("\n".join(text), missed)


def torture(found: Found | None, head: str, path: str) -> Section:
    """Show the tallies of `make torture`."""
    if found is None:
        return unrecorded(head, path)
    rows, missed = [["part", "kind", "tried", "survived", "lost", "figures"]], []
    for part, tallies in found["parts"].items():
        for tally in tallies:
            notes = ", ".join(f"{name} {value}" for name, value in tally["notes"].items())
            rows.append(
                [
                    part,
                    tally["kind"],
                    *(f"{n:,}" for n in (tally["tried"], tally["survived"], len(tally["lost"]))),
                    notes,
                ]
            )
            missed += [f"`make torture`: {tally['kind']}: {line}" for line in tally["lost"]]
            missed += [] if tally["tried"] else [f"`make torture`: {tally['kind']}: not tried"]
    return Section(f"{head}\n\n{about(found)}\n\n{markdown(rows, text_columns=2)}\n", missed)


def acceptance(found: Found | None, head: str, path: str) -> Section:
    """Show what `make acceptance` printed."""
    if found is None:
        return unrecorded(head, path)
    parts = [f"{head}\n"]
    for part in filter(None, found.values()):
        text = part["report"].replace("\n## ", "\n### ").strip()
        title, _, tables = text.partition("\n")
        parts.append(f"{title}\n\n{about(part)}\n\n{folded(tables.strip())}\n")
    if absent := [name for name, part in found.items() if part is None]:
        parts.append(f"Not recorded for this version: {', '.join(absent)}.\n")
    missed = [f"`make acceptance`: {name}: {aim(part)}" for name, part in found.items() if part and not part["met"]]
    return Section("\n".join(parts), missed)


def folded(text: str) -> str:
    """Hide the rows of long tables until a reader asks for them."""
    start, end = '<details markdown="1">\n<summary>{} rows</summary>\n\n', "\n</details>\n"

    def fold(table: re.Match[str]) -> str:
        rows = table[0].count("\n") - 2  # without the header and the line below it
        return start.format(rows) + table[0] + end if rows > LONG else table[0]

    return re.sub(r"(?:^\|.*\|\n)+", fold, text + "\n", flags=re.MULTILINE).strip()


def aim(part: Found) -> str:
    """Return the last row of a section's tables that has a target, with the names of its columns."""
    lines = part["report"].splitlines()
    rows = [at for at, line in enumerate(lines) if line.startswith("|") and "(target" in line]
    if not rows:
        return "see its tables"
    header = next(at for at in range(rows[-1], 0, -1) if not lines[at - 1].startswith("|"))
    names, values = ([cell.strip() for cell in lines[at].strip("| ").split("|")] for at in (header, rows[-1]))
    found = [f"{name} {value}" for name, value in zip(names[1:], values[1:], strict=True) if value]
    return f"{values[0]}: {', '.join(found)}"


def unrecorded(head: str, path: str) -> Section:
    """Say that a command has no record."""
    return Section(f"{head}\n\nNo run of this version is recorded: the command writes `{path}`.\n", [])


def about(found: Found, key: str = "about") -> str:
    """Return when, where and with what something was measured, on one line."""
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in sorted(found[key].items())) + "."


def number(value: float | None) -> str:
    """Format a figure."""
    if value is None:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


COMMANDS = (
    ("benchmark", "Speed on a CPU beside the plain way, two hours.", "benchmarks/results/cpu.json", benchmarks),
    ("gpu", "Speed on one H100, and that the results are those of a CPU.", "benchmarks/results/h100.json", gpu),
    ("torture", "Kills, faults, damage and hostile input for 25 minutes.", "torture/results.json", torture),
    (
        *("acceptance", "Long runs on real images with a small CLIP, several hours."),
        *("acceptance/results.json", acceptance),
    ),
)
"""Command, what it measures, the file that it writes, and how that is shown."""


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
