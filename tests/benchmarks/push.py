"""Pushing a run with eleven variants to a local Hub: the process's peak memory and disk usage.

    python tests/benchmarks/push.py [--quick] [--json FILE]

Needs 9 GB of disk in TMPDIR, most of it for the Hub.
"""

import json
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import yaml
from common import FOLDER, MIB, Row, arguments, child, report
from inputs import fine_tuned, make_clip, make_processor

from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
from hf_paint.models.loading import save_clip
from hf_paint.models.towers import image_tower_weights
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.plots import plot_trade_off
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog


SERVER = Path(__file__).parents[1] / "support" / "hub_server.py"
ALPHAS = [step / 10 for step in range(11)]
TASK = {"name": "mnist", "dataset": "ylecun/mnist", "templates": ["{}"], "class_names": ["0", "1"]}
MAX_BYTES = 10**9
MAX_VARIANTS = 2


def main() -> None:
    """Push once while watching the temporary folder."""
    parsed = arguments(__doc__)
    run = make_run(quick=parsed.quick)
    variant = (run / "theta_1" / "model.safetensors").stat().st_size
    server = subprocess.Popen(
        [sys.executable, str(SERVER), "--root", str(FOLDER / "hub"), "--lfs_threshold", "100000"],
        stdout=subprocess.PIPE,
        text=True,
    )
    os.environ |= dict(server.stdout.readline().strip().split("=", 1) for _ in range(7))
    done, sizes = threading.Event(), [0]
    watcher = threading.Thread(target=watch, args=(run, done, sizes))
    watcher.start()
    try:
        command = [sys.executable, "-m", "hf_paint.cli", "push", str(run), "--repo_id", "tester/clip"]
        pushed = child([*command, "--base_model_id", "o/clip"])
    finally:
        done.set()
        watcher.join()
        server.kill()
    job = f"push of 11 variants and main, {'two layers' if parsed.quick else 'ViT-B/32'}"
    memory = Row(
        job=f"{job}: peak memory",
        plain="",
        ours=f"{pushed.seconds:.1f} s",
        memory=f"{pushed.peak / MIB:.0f} MiB",
        target=f"below {MAX_BYTES / MIB:.0f} MiB",
        met=pushed.peak < MAX_BYTES,
    )
    disk = Row(
        job=f"{job}: temporary disk, at most",
        plain="",
        ours=f"{max(sizes) / 1e6:.0f} MB, {max(sizes) / variant:.2f} variants",
        target=f"below {MAX_VARIANTS} variants",
        met=0 < max(sizes) < MAX_VARIANTS * variant,
    )
    report([memory, disk], parsed)


def watch(run: Path, done: threading.Event, sizes: list[int]) -> None:
    """Record the size of a push's temporary folders every 5 ms."""
    while not done.wait(0.005):
        with suppress(FileNotFoundError):  # a file deleted in between
            sizes.append(sum(path.stat().st_size for path in run.glob(".push-*/**/*")))


def make_run(*, quick: bool) -> Path:
    """Write a run folder with made-up accuracies."""
    processor = make_processor(["a photo of the number"], vocab_size=600)
    model = make_clip("ViT-B/32", processor, quick=quick)
    base, run = FOLDER / "base", FOLDER / "run"
    save_clip(model, processor, base)
    before = fingerprint_weights(image_tower_weights(model))
    model.load_state_dict(fine_tuned(model.state_dict()))
    save_clip(model, processor, run / "theta_1")
    after = fingerprint_weights(image_tower_weights(model))
    log = ResultLog(run)
    for alpha in ALPHAS:
        weights = fingerprint_interpolation(before, after, alpha)
        keys = {"alpha": alpha, "total": 100, "weights": weights, "split": "test"}
        log.append(Result(task="mnist", role="patching", correct=round(50 + 40 * alpha), **keys))
        log.append(Result(task="cifar10", role="supported", correct=round(90 - 40 * alpha), **keys))
    plot_trade_off(AlphaCurve.from_run(run), run / "curve.png")
    recipe = {"model": str(base), "patching_tasks": [TASK], "supported_tasks": ["cifar10"], "base_fingerprint": before}
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    selection = {"alpha": 0.3, "rule": "mean", "tolerance": 0.01, "num_alphas": 11, "chosen_on": "validation"}
    (run / "selection.json").write_text(json.dumps(selection | {"reported_on": "test"}))
    facts = {"class_names": ["0"], "save_dtype": "float32", "plot": "curve.png", "versions": {"torch": "any"}}
    (run / "card.json").write_text(json.dumps(facts))
    return run


if __name__ == "__main__":
    main()
