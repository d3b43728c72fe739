"""Shared code of the benchmarks: arguments, interleaved rounds, child processes, and table rows.

On shared machines, absolute times vary from minute to minute. Both implementations of a job therefore run in turn, in
one process and on the same cores; the ratio within each round is what counts.
"""

import argparse
import atexit
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple


os.environ["HF_HOME"] = tempfile.mkdtemp(prefix="hf-paint-benchmark-")  # nothing is read from a cache or left in one
os.environ["HF_PAINT_CACHE"] = os.environ["HF_HOME"] + "/hf_paint"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch


FOLDER = Path(os.environ["HF_HOME"])
"""Holds everything that is written, and is deleted at the end; TMPDIR says on which disk."""
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)
MIB = 2**20
HEADER = ("job", "plain way", "hf_paint", "ratio, median (min to max)", "peak memory", "largest difference", "target")
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1)])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([time.perf_counter() - start, usage.ru_maxrss * 1024, os.waitstatus_to_exitcode(status)]))
"""


class Run(NamedTuple):
    """One run of one implementation: seconds, and peak memory in bytes if it ran in a separate process."""

    seconds: float
    peak: int = 0


@dataclass(frozen=True, kw_only=True)
class Target:
    """A job's targets: speed-up, peak memory in MiB, largest difference."""

    speedup: float | None = None
    aim: float | None = None
    mib: float | None = None
    difference: float | None = None

    def __str__(self) -> str:
        aim = f" (aim {self.aim:g}x)" if self.aim else ""
        parts = [
            f"at least {self.speedup:g}x{aim}" if self.speedup is not None else "",
            f"at most {self.mib:g} MiB" if self.mib is not None else "",
            f"difference at most {self.difference:g}" if self.difference is not None else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True, kw_only=True)
class Row:
    """A table row; `met` is None if there is no target."""

    job: str
    plain: str
    ours: str
    ratio: str = ""
    memory: str = ""
    difference: str = ""
    target: str = ""
    met: bool | None = None

    def __str__(self) -> str:
        *cells, met = asdict(self).values()
        return f"| {' | '.join([*cells, {True: 'yes', False: 'NO', None: ''}[met]])} |"


def add_arguments(parser: argparse.ArgumentParser, *, device: str | None = "cpu") -> None:
    """Add the arguments shared by all benchmarks, with a default device."""
    parser.add_argument("--rounds", type=int, default=5, help="runs of each way; medians are reported")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="cores for either way")
    parser.add_argument("--device", choices=("cpu", "cuda"), default=device, help="where sweeps and training run")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it works; targets mean nothing")
    parser.add_argument("--json", type=Path, help="also write the rows to this file, one JSON object per line")


def arguments(
    description: str, parser: argparse.ArgumentParser | None = None, *, device: str | None = "cpu"
) -> argparse.Namespace:
    """Parse a script's arguments, and pin this process and its children to the same cores.

    Args:
        description: Text whose first line states the script's purpose.
        parser: A parser with the script's own arguments.
        device: The default device.
    """
    parser = parser or argparse.ArgumentParser()
    parser.description = description.splitlines()[0]
    add_arguments(parser, device=device)
    parsed = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: parsed.threads])
    torch.set_num_threads(parsed.threads)
    torch.manual_seed(0)
    return parsed


def seconds(way: Callable[[], Any]) -> Run:
    """Time one call."""
    start = time.perf_counter()
    way()
    return Run(time.perf_counter() - start)


def child(command: Sequence[str]) -> Run:
    """Time a whole process and read its peak memory from the operating system.

    A small process starts it, because a child's peak memory starts at that of the process it was forked from.
    """
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCHER, *command]
    finished = subprocess.run(launcher, capture_output=True, text=True, check=True)
    taken, peak, exit_code = json.loads(finished.stdout)
    if exit_code != 0:
        raise RuntimeError(f"{command[:3]} ended with {exit_code}: {finished.stderr[-2000:]}")
    return Run(taken, peak)


def interleave(ways: Mapping[str, Callable[[], Run]], rounds: int) -> dict[str, list[Run]]:
    """Run each implementation once per round, in turn, so that load on the machine affects them all equally."""
    runs: dict[str, list[Run]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            runs[name].append(way())
    return runs


def compare(
    job: str,
    plain: Sequence[Run],
    ours: Sequence[Run],
    *,
    unit: str = "",
    work: tuple[int, int] = (1, 1),
    difference: float | None = None,
    target: Target = Target(),
) -> Row:
    """Return the table row for a job: the ratio in each round, and its median compared with the target.

    Args:
        job: The name of the measurement.
        plain: Runs of the plain implementation.
        ours: Our runs in the same rounds.
        unit: What `work` counts, e.g. `images`. If empty, seconds are shown instead of rates.
        work: Amount of work in one plain run and in one of ours.
        difference: The largest difference between the two implementations' results.
        target: The job's targets.
    """
    ratios = [(p.seconds / work[0]) / (o.seconds / work[1]) for p, o in zip(plain, ours, strict=True)]
    ratio, peak = statistics.median(ratios), max(run.peak for run in ours)
    misses = (
        target.speedup is not None and ratio < target.speedup,
        target.mib is not None and peak > target.mib * MIB,
        target.difference is not None and (difference is None or difference > target.difference),
    )
    return Row(
        job=job,
        plain=_median(plain, unit, work[0]),
        ours=_median(ours, unit, work[1]),
        ratio=f"{ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        memory=f"{max(run.peak for run in plain) / MIB:.0f} / {peak / MIB:.0f} MiB" if peak else "",
        difference="" if difference is None else f"{difference:.1e}" if difference else "0",
        target=str(target),
        met=None if target == Target() else not any(misses),
    )


def table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    return "\n".join([f"| {' | '.join([*HEADER, 'met'])} |", "|" + " --- |" * (len(HEADER) + 1), *map(str, rows)])


def report(rows: Sequence[Row], parsed: argparse.Namespace) -> None:
    """Print the table, and write its rows to the `--json` file."""
    print(table(rows), flush=True)
    if parsed.json:
        parsed.json.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")


def read_rows(path: Path) -> list[Row]:
    """Read a script's rows; return an empty list if the file does not exist."""
    return [Row(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines()] if path.exists() else []


def _median(runs: Sequence[Run], unit: str, work: int) -> str:
    median = statistics.median(run.seconds for run in runs)
    found = work / median if unit else median
    shown = f"{found:.3g}" if found < 1000 else f"{found:.0f}"
    return f"{shown} {unit}/s" if unit else f"{shown} s"
