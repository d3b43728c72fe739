"""`make benchmark`: run every benchmark in turn and print one table at the end.

    python tests/benchmarks/run.py [interpolation head ...] [--rounds 5] [--threads N] [--device cpu] [--quick]

Run from the root of the checkout on an idle machine; all of them take about two hours on two cores. The rows of each
script are written to tests/benchmarks/results/ when it ends, in place of those of its last run, and
`python docs/measured.py` shows them.
"""

import argparse
import json
import platform
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from common import FOLDER, Row, add_arguments, read_rows, report


RESULTS = Path(__file__).with_name("results")
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
        if not (parsed.quick or script in failed):
            record(script, rows[script], parsed)
    print(f"\n## All, on {machine(parsed)}\n")
    report([row for of_script in rows.values() for row in of_script], parsed)
    return 1 if failed else 0


def record(script: str, rows: list[Row], parsed: argparse.Namespace) -> None:
    """Write the rows of a script, and when and where they were measured, beside those of the other scripts."""
    path = RESULTS / f"{parsed.device}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    about = {"date": time.strftime("%Y-%m-%d"), "machine": machine(parsed), "python": platform.python_version()}
    found[script] = {"about": about, "rows": [asdict(row) for row in rows]}
    in_order = {name: found[name] for name in SCRIPTS[parsed.device] if name in found}
    path.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")


def machine(parsed: argparse.Namespace) -> str:
    """Describe the machine that runs the benchmarks."""
    info = Path("/proc/cpuinfo")
    units = {"amx_bf16", "avx512_bf16"}.intersection(info.read_text().split() if info.exists() else ())
    bf16 = f"bf16 in hardware: {' and '.join(sorted(units)) or 'unknown'}"
    device = torch.cuda.get_device_name() if parsed.device == "cuda" else bf16
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{parsed.threads} cores, {device}, {versions}, medians of {parsed.rounds}"


if __name__ == "__main__":
    sys.exit(main())
