"""Merging eight fine-tuned image towers on disk: ours against the plain way, each in a process of its own.

    python tests/benchmarks/merging.py [--rounds 1] [--threads N] [--methods ties tsv] [--quick] [--json FILE]

The towers have the shapes of ViT-B/32 and random weights, which are written first (6 GB in TMPDIR): as safetensors
for ours, and as pickles for the plain way (`merging_plain.py`). Time is the CPU time of a process over all its threads
from the first read to the last write, without imports, so that other work on the machine counts little. Memory is the
largest private memory (RssAnon, read every 10 ms) above that after the imports: pages of mapped files, which the
system may drop, are not in it.
"""

import argparse
import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import torch
from common import FOLDER, Run, Target, arguments, compare, interleave, report
from merging_plain import PLAIN
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection


NUM_TASKS = 8
LEAST_MEMORY = 3.0
"""How many times as much memory the plain way must take."""
OURS = """
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.models.stored import LazyWeights
from types import SimpleNamespace
theta_0 = LazyWeights(f"{folder}/theta_0")
thetas = {str(i): LazyWeights(f"{folder}/theta_{i}") for i in range(1, number + 1)}
method, device = read_method(name), SimpleNamespace(device=torch.device("cpu"))
def run():
    save_file(method.merge(theta_0, thetas, device), f"{folder}/ours.safetensors")
"""
PLAINLY = """
from merging_plain import PLAIN
def run():
    theta_0 = torch.load(f"{folder}/theta_0/weights.pt")
    thetas = [torch.load(f"{folder}/theta_{i}/weights.pt") for i in range(1, number + 1)]
    save_file(PLAIN[name](theta_0, thetas), f"{folder}/plain.safetensors")
"""
MEASURED = """
import json, sys, threading, time
import torch
from safetensors.torch import save_file
folder, name, number, threads = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
torch.set_num_threads(threads)
{way}
def private():
    with open("/proc/self/status") as file:
        return next(1024 * int(line.split()[1]) for line in file if line.startswith("RssAnon"))
found, done = [private()], threading.Event()
def watch():
    while not done.wait(0.01):
        found.append(private())
thread = threading.Thread(target=watch, daemon=True)  # an error ends the process
thread.start()
start = time.process_time()
run()
seconds = time.process_time() - start
found.append(private())
done.set()
thread.join()
print(json.dumps([seconds, max(found) - found[0]]))
"""


def main() -> None:
    """Write the towers, and measure each merge."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--methods", nargs="+", default=list(PLAIN), choices=PLAIN)
    parsed = arguments(__doc__, parser)
    write_towers(FOLDER, quick=parsed.quick)
    rows = []
    for name in parsed.methods:
        ways = {way: partial(measure, way, name, parsed.threads) for way in ("plain", "ours")}
        runs = interleave(ways, 1 if parsed.rounds == parser.get_default("rounds") else parsed.rounds)
        difference = None if name == "dare" else largest_difference()  # which entries DARE drops is random
        job = f"merge {NUM_TASKS} ViT-B/32{', two layers' if parsed.quick else ''}, {name}, CPU time"
        rows.append(compare(job, runs["plain"], runs["ours"], difference=difference, target=target_of(runs["plain"])))
        print(rows[-1], flush=True)
    report(rows, parsed)


def target_of(plain: list[Run]) -> Target:
    """Return the target of a merge: no slower, and a third of the memory."""
    return Target(speedup=1.0, mib=round(max(run.peak for run in plain) / LEAST_MEMORY / 2**20))


def write_towers(folder: Path, *, quick: bool = False) -> None:
    """Write theta_0 and the fine-tuned towers, each as safetensors and as a pickle."""
    config = CLIPVisionConfig(patch_size=32, **({"num_hidden_layers": 2} if quick else {}))
    theta_0 = CLIPVisionModelWithProjection(config).state_dict()
    theta_0 = {name: x for name, x in theta_0.items() if x.is_floating_point()}
    for number in range(NUM_TASKS + 1):
        generator = torch.Generator().manual_seed(number)
        moved = {n: x + 1e-3 * torch.randn(x.shape, generator=generator) for n, x in theta_0.items()}
        where = folder / f"theta_{number}"
        where.mkdir(parents=True, exist_ok=True)
        weights = moved if number else theta_0
        save_file(weights, where / "model.safetensors")
        torch.save(weights, where / "weights.pt")


def measure(way: str, name: str, threads: int) -> Run:
    """Run one merge in a process of its own; return its CPU time and its private memory."""
    script = MEASURED.replace("{way}", PLAINLY if way == "plain" else OURS)
    command = [sys.executable, "-c", script, str(FOLDER), name, str(NUM_TASKS), str(threads)]
    finished = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    if finished.returncode:
        raise RuntimeError(f"{way} {name} failed: {finished.stderr[-2000:]}")
    seconds, peak = json.loads(finished.stdout.splitlines()[-1])
    return Run(seconds, peak)


def largest_difference() -> float:
    """Return the largest difference between the two results, one tensor at a time."""
    with safe_open(FOLDER / "ours.safetensors", "pt") as ours, safe_open(FOLDER / "plain.safetensors", "pt") as plain:
        names = list(ours.keys())
        return max(float((ours.get_tensor(name) - plain.get_tensor(name)).abs().max()) for name in names)


if __name__ == "__main__":
    main()
    shutil.rmtree(FOLDER, ignore_errors=True)
