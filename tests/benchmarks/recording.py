"""The record of `make benchmark` in tests/benchmarks/results/, one file for each kind of device."""

import argparse
import json
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import torch
import transformers
from common import Row


RESULTS = Path(__file__).with_name("results")


def record(script: str, rows: list[Row], parsed: argparse.Namespace, *, order: Sequence[str]) -> None:
    """Write the rows of a script, and when and where they were measured, beside those of the other scripts."""
    path = RESULTS / f"{parsed.device}.json"
    found = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    about = {"date": time.strftime("%Y-%m-%d"), "machine": machine(parsed), "python": platform.python_version()}
    found[script] = {"about": about, "rows": [asdict(row) for row in rows]}
    in_order = {name: found[name] for name in order if name in found}
    path.write_text(json.dumps(in_order, indent=1) + "\n", encoding="utf-8")


def machine(parsed: argparse.Namespace) -> str:
    """Describe the machine that runs the benchmarks."""
    info = Path("/proc/cpuinfo")
    units = {"amx_bf16", "avx512_bf16"}.intersection(info.read_text().split() if info.exists() else ())
    bf16 = f"bf16 in hardware: {' and '.join(sorted(units)) or 'unknown'}"
    device = torch.cuda.get_device_name() if parsed.device == "cuda" else bf16
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    return f"{parsed.threads} cores, {device}, {versions}, medians of {parsed.rounds}"
