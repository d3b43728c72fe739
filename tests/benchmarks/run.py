"""`make benchmark`: run every benchmark in turn and print one table at the end.

    python tests/benchmarks/run.py [interpolation head ...] [--rounds 5] [--threads N] [--device cpu] [--quick]

Run from the root of the checkout on an idle machine; all of them take about two hours on two cores. The rows of each
script are written to tests/benchmarks/results/ when it ends, in place of those of its last run, and
`python docs/measured.py` shows them.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from common import FOLDER, Row, add_arguments, read_rows, report
from recording import machine, record


SCRIPTS = {
    "cpu": (
        *("interpolation", "head", "pixels", "feeding", "sweep", "adaptive", "training", "linear_classifier"),
        *("merging", "push", "search", "typographic", "live"),
    ),
    "cuda": ("sweep", "training"),
}


def main() -> int:
    """Run the scripts and print the table; the exit code is 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scripts", nargs="*", help="which; by default all that there are for the device")
    add_arguments(parser)
    parsed = parser.parse_args()
    flags = [f"--rounds={parsed.rounds}", f"--threads={parsed.threads}", f"--device={parsed.device}"]
    flags += ["--quick"] if parsed.quick else []
    rows: dict[str, list[Row]] = {}
    failed = []
    for script in parsed.scripts or SCRIPTS[parsed.device]:
        print(f"\n## {script}\n", flush=True)
        results = FOLDER / f"{script}.jsonl"
        command = [sys.executable, str(Path(__file__).with_name(f"{script}.py")), *flags, f"--json={results}"]
        finished = subprocess.run(command, stderr=subprocess.PIPE, text=True)  # stderr holds progress bars
        if finished.returncode != 0:
            print(f"{script} failed:\n{finished.stderr[-4000:]}", flush=True)
            failed.append(script)
        rows[script] = read_rows(results)
        if rows[script] and not (parsed.quick or script in failed):
            record(script, rows[script], parsed, order=SCRIPTS[parsed.device])
    print(f"\n## All, on {machine(parsed)}\n")
    report([row for of_script in rows.values() for row in of_script], parsed)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
