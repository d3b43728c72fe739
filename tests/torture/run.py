"""`make torture`: kills, faults, damage, fuzzing, hostile inputs, load and repetition, with one table at the end.

    python tests/torture/run.py [kills faults ...] [--minutes 25] [--seed 0] [--json FILE]

Whatever is lost is printed with how to repeat it, and the exit code is 1, as it is if time was too short to try
something. After each part, the rows are written to tests/torture/results.json. Run on an idle machine; on two cores,
it takes 25 minutes.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib import import_module
from pathlib import Path

from tally import Budget, Tally


ROOT = Path(__file__).resolve().parents[2]
PARTS = {"kills": 8, "faults": 6, "damage": 2.5, "fuzz": 3, "hostile": 1, "load": 3, "same": 1.5}
"""Part -> minutes of 25. Each is a module with a function `torture` that takes a budget and yields tallies."""


def main() -> int:
    """Run the parts and print the table; the exit code is 1 if anything was lost, or time was too short to try it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="*", help="which; by default all", metavar="PART")
    parser.add_argument("--minutes", type=float, default=25, help="time for all parts together")
    parser.add_argument("--seed", type=int, default=0, help="seed of all that is drawn")
    parser.add_argument("--json", type=Path, default=Path(__file__).with_name("results.json"), help="file to write")
    parsed = parser.parse_args()
    sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT / "tests")]
    parts = parsed.parts or list(PARTS)
    rows: dict[str, list[Tally]] = {}
    for part in parts:
        share = PARTS[part] / sum(PARTS[name] for name in parts)
        budget = Budget(60 * parsed.minutes * share, parsed.seed)
        print(f"{part}: {budget.seconds:.0f} s", flush=True)
        rows[part] = []
        for tally in import_module(part).torture(budget):
            rows[part].append(tally)
            print(*_lines(tally), sep="\n", flush=True)
        _write(parsed.json, rows, parsed)
    print("", _table(rows), sep="\n")
    return 1 if any(tally.lost or not tally.tried for tallies in rows.values() for tally in tallies) else 0


def _lines(tally: Tally) -> list[str]:
    """Return a tally as lines: the counts, then all that was lost."""
    counts = f"{tally.survived} of {tally.tried}" if tally.tried else "not tried"
    return [f"  {tally.kind}: {counts}", *(f"    LOST {line}" for line in tally.lost)]


def _table(rows: dict[str, list[Tally]]) -> str:
    """Return all tallies as a Markdown table."""
    lines = ["| part | kind | tried | survived | lost | figures |", "| --- | --- | --: | --: | --: | --- |"]
    for part, tallies in rows.items():
        for x in tallies:
            notes = ", ".join(f"{name} {value}" for name, value in x.notes.items())
            counts = f"{x.tried} | {x.survived} | {len(x.lost)}" if x.tried else "0 | not tried | not tried"
            lines.append(f"| {part} | {x.kind} | {counts} | {notes} |")
    return "\n".join(lines)


def _write(path: Path, rows: dict[str, list[Tally]], parsed: argparse.Namespace) -> None:
    """Write what was counted, and on what."""
    counted = {
        part: [
            {"kind": x.kind, "tried": x.tried, "survived": x.survived, "lost": x.lost, "notes": x.notes}
            for x in tallies
        ]
        for part, tallies in rows.items()
    }
    where = {"date": time.strftime("%Y-%m-%d"), "python": platform.python_version(), "system": platform.system()}
    where |= {"machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    about = {**where, "seed": parsed.seed, "minutes": parsed.minutes}
    path.write_text(json.dumps({"about": about, "parts": counted}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
