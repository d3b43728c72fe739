"""`make gpu`: what hf_paint does on one GPU, in minutes: the same results, speed against plain loops, and faults.

    python tests/benchmarks/gpu.py [sections ...] [--json FILE] [--tiny] [--device cuda]

Works offline with random ViT-B/32 and ViT-L/14 weights, the toy CLIP, and JPEGs that it draws. Each section runs in a
process of its own with a time limit, and the JSON file and the table are written after each, so that a stop loses
nothing. Without a GPU, the sections run with `--tiny` shapes, which shows that the script works, and no speeds.
"""

import argparse
import importlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from common import FOLDER, arguments
from gpu_figures import HEADER, Figure, Setting, last_error
from gpu_processes import Fork


SECTIONS = {
    "rates": ("gpu_training", 30),
    "sweep": ("gpu_sweep", 110),
    "train": ("gpu_training", 80),
    "train_small": ("gpu_training", 80),
    "same": ("gpu_runs", 90),
    "many": ("gpu_runs", 90),
    "syncs": ("gpu_training", 60),
    "faults": ("gpu_runs", 150),
    "merges": ("gpu_merges", 60),
    "memory": ("gpu_memory", 75),
    "pipeline": ("gpu_pipeline", 120),
    "lora": ("gpu_training", 60),
    "head": ("gpu_sweep", 45),
    "precision": ("gpu_sweep", 40),
}
"""Section -> the module with a function of this name, and its limit in seconds, from the most important on."""
TOGETHER = ("same", "many", "syncs", "faults")
"""Sections that measure no speed, and run at the same time."""
NEEDED = ("accelerate", "datasets", "huggingface_hub", "peft", "safetensors", "sklearn", "torch", "transformers")
TOTAL = 480
TINY_LIMIT = 240
"""Seconds for a tiny section, far above the few that one takes on idle cores."""


def main() -> int:
    """Run the sections; the exit code is 1 if one of them failed or missed a target."""
    parser = argparse.ArgumentParser()
    parser.add_argument("sections", nargs="*", metavar="section", help=f"any of {', '.join(SECTIONS)}; all by default")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to see that the script works")
    parser.add_argument("--limit", type=float, help=f"seconds after which no section runs on; {TOTAL} if not tiny")
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    parsed = arguments(__doc__, parser, device=None)
    parsed.device = parsed.device or ("cuda" if torch.cuda.is_available() else "cpu")
    parsed.tiny |= parsed.device == "cpu"
    parsed.limit = parsed.limit or (math.inf if parsed.tiny else TOTAL)
    if parsed.out:
        run_section(parsed.sections[0], Setting(device=parsed.device, tiny=parsed.tiny), parsed.out)
        return 0
    missing = [name for name in NEEDED if not importlib.util.find_spec(name)]
    if missing:
        print(f"Not installed: {', '.join(missing)}; what needs them fails below.", flush=True)
    elif parsed.tiny:
        for module in {module for module, _ in SECTIONS.values()}:
            importlib.import_module(module)  # once, for all forks
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing goes on without this process
    start, results = time.monotonic(), {"machine": machine(parsed.device), "tiny": parsed.tiny, "sections": {}}
    print(results["machine"], "tiny shapes: these are no speeds" if parsed.tiny else "", flush=True)
    for group in groups(parsed.sections or list(SECTIONS), together=not parsed.tiny):
        results["sections"] |= run_group(group, parsed, parsed.limit - (time.monotonic() - start))
        if parsed.json:
            parsed.json.write_text(json.dumps(results, indent=1), encoding="utf-8")
        print("\n".join(table(section, results["sections"][section]) for section in group), flush=True)
    figures = [figure for found in results["sections"].values() for figure in found.get("figures", [])]
    failed = any("error" in found for found in results["sections"].values())
    return int(failed or any(figure["met"] is False for figure in figures))


def groups(sections: list[str], *, together: bool) -> list[list[str]]:
    """Return the sections in groups that run at the same time."""
    shared = [section for section in sections if section in TOGETHER] if together else []
    rest = [[section] for section in sections if section not in shared]
    first = [[section] for section in sections[: sections.index(shared[0])]] if shared else []
    return [*first, shared, *rest[len(first) :]] if shared else rest


def run_group(group: list[str], parsed: argparse.Namespace, left: float) -> dict[str, dict[str, object]]:
    """Run sections at the same time."""
    if len(group) == 1:  # in the main thread: a fork of another one could not end in order
        return {group[0]: run_child(group[0], parsed, left)}
    with ThreadPoolExecutor(len(group)) as pool:
        found = pool.map(lambda section: run_child(section, parsed, left), group)
        return dict(zip(group, found, strict=True))


def run_child(section: str, parsed: argparse.Namespace, left: float) -> dict[str, object]:
    """Run a section in its own process, and return its figures, its seconds, and what went wrong."""
    if left <= 0:
        return {"error": "no time was left"}
    out, log = FOLDER / f"{section}.jsonl", FOLDER / f"{section}.log"
    out.touch()
    limit = min(left, TINY_LIMIT if parsed.tiny else SECTIONS[section][1])
    start, error = time.monotonic(), ""
    with log.open("w") as file:
        process = begin(section, parsed, out, file.fileno())
        try:
            if process.wait(limit):
                error = f"exit code {process.returncode}: {last_error(log.read_text())}"
        except subprocess.TimeoutExpired:
            error = f"stopped at its limit of {limit:.0f} s: {log.read_text()[-800:]}"
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the processes that it started, too
    figures = [json.loads(line) for line in out.read_text().splitlines()]
    found = {"date": time.strftime("%Y-%m-%d"), "seconds": round(time.monotonic() - start, 1), "figures": figures}
    return found | ({"error": error} if error else {})


def begin(section: str, parsed: argparse.Namespace, out: Path, log: int) -> subprocess.Popen | Fork:
    """Start a section: a fork for tiny shapes, which take less time than the imports, and else a new process."""
    if parsed.tiny:
        return Fork(partial(run_section, section, Setting(device=parsed.device, tiny=True), out), log, alone=True)
    flags = ["--device", parsed.device, "--out", str(out), "--threads", str(parsed.threads)]
    command = [sys.executable, __file__, section, *flags]
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def run_section(section: str, setting: Setting, out: Path) -> None:
    """Run one section in this process; every figure is written as soon as it is there."""
    function = getattr(importlib.import_module(SECTIONS[section][0]), section)
    with out.open("a", encoding="utf-8") as file:
        for figure in function(setting):
            file.write(json.dumps(figure.to_dict()) + "\n")
            file.flush()


def table(section: str, found: dict) -> str:
    """Return a section's figures as a Markdown table."""
    lines = [f"\n## {section} ({found.get('seconds', 0)} s)\n", HEADER]
    lines += [Figure(**figure).line() for figure in found.get("figures", [])]
    return "\n".join([*lines, *([f"\nFAILED, {found['error']}"] if "error" in found else [])])


def machine(device: str) -> dict[str, str]:
    """Return the card and the versions."""
    found = {"python": platform.python_version(), "cores": str(os.cpu_count())}
    for name in ("torch", "transformers", "accelerate", "peft", "datasets", "huggingface_hub"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    if device == "cuda":
        found["card"] = torch.cuda.get_device_name()
    return found


if __name__ == "__main__":
    sys.exit(main())
