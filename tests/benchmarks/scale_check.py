"""Compare the simulation with real runs, using rates measured on this machine at the same time.

Runs use one thread (interpolation uses its own) and are timed in processor seconds. The best round of each counts,
because other load takes away caches and memory bandwidth and never makes a run faster.

`scale.py` starts this script for each job in its own process and watches its memory:

    python tests/benchmarks/scale_check.py train ViT-B/32 out.json --threads 1 [--rounds 5] [--quick]
"""

import argparse
import ctypes
import json
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Any
from unittest.mock import patch

from common import FOLDER, MIB, Row, arguments, child
from inputs import SMALL_TOWER, fine_tuned, make_clip
from machines import Job, Machine, Memory, Plan
from rates import Rates, cache_rates, chunk_rate, now, seconds_of, tower_rates
from safetensors.torch import load_file, save_file
from simulation import (
    interpolation_seconds,
    model_bytes,
    sweep_memory,
    sweep_seconds,
    training_memory,
    training_seconds,
)
from sweep import Sweep
from torch import Tensor
from towers import clip_config, num_tokens
from transformers import CLIPConfig

from hf_paint import interpolate_checkpoints
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import CPU_ACTIVATION_BYTES
from hf_paint.merging.path import Line
from hf_paint.models.towers import image_tower, with_weights
from training import Training


WITHIN = 0.3
BATCHES = {"ViT-B/32": 32, "ViT-L/14": 4}
"""Images of a training step, so many that a step takes seconds."""
NUM_IMAGES = {"ViT-B/32": 64, "ViT-L/14": 8}
"""Images of an evaluation."""


def main() -> None:
    """Run one job, and write the prediction and the measurement."""
    parser = argparse.ArgumentParser()
    parser.add_argument("task", choices=JOBS)
    parser.add_argument("shape", choices=BATCHES)
    parser.add_argument("out", type=Path)
    parsed = arguments(__doc__, parser)
    parsed.out.write_text(json.dumps(JOBS[parsed.task](parsed.shape, parsed.rounds, quick=parsed.quick)))


def check(task: str, shape: str, parsed: argparse.Namespace) -> list[Row]:
    """Run a job in a separate process, and return the table rows for its time and memory."""
    out = FOLDER / "check.json"
    options = [f"--rounds={parsed.rounds}", "--threads=1", *(["--quick"] if parsed.quick else [])]
    child([sys.executable, __file__, task, shape, str(out), *options])
    found = json.loads(out.read_text())
    seconds = [_row(f"{shape}, {name}", *pair, "s") for name, *pair in found["seconds"]]
    return [*seconds, *(_row(f"{shape}, {name}", *pair, "MiB") for name, *pair in found["memory"])]


def check_training(shape: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Predict and measure a step of the trainer in bfloat16."""
    before, batch = in_memory(), BATCHES[shape]
    training = Training(shape, "cpu", batch, 2, quick=quick)  # the first step of each run is not timed
    training.weights = mapped(training.weights, "base")
    config, job = checked_config(shape, quick=quick), Job(batch_size=batch, num_steps=1)
    predicted, measured = [], []
    for _ in range(rounds):
        machine = machine_of(tower_rates(config.vision_config, batch))
        predicted.append(training_seconds(config, machine, Plan(), job).total())
        with patch("training.now", lambda device: now()):
            measured.append(training.trainer(bf16=True)[0].seconds)
    with watched_memory() as sizes:
        training.trainer(bf16=True)
    memory = training_memory(config, machine, Plan(), job)
    return result(f"training step of {batch} images, bf16", predicted, measured, memory, max(sizes) - before)


def check_sweep(shape: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Predict and measure a sweep of two alphas in bfloat16, on decoded images."""
    num_images, alphas = NUM_IMAGES[shape], (0.3, 0.6)
    sweep = Sweep(shape, num_images, alphas, device="cpu", quick=quick)
    theta_0, theta_1 = mapped(sweep.theta_0, "theta_0"), mapped(sweep.theta_1, "theta_1")
    sweep.theta_0 = sweep.theta_1 = {}
    sweep.model = with_weights(sweep.model, theta_0)
    sweep.tower = image_tower(sweep.model)
    config, job = checked_config(shape, quick=quick), Job(num_alphas=len(alphas), num_images=num_images)
    vision, evaluator, prepared = config.vision_config, sweep.evaluator("bf16"), sweep.prepare()
    group = max(1, CPU_ACTIVATION_BYTES // (num_tokens(vision) * vision.intermediate_size * 2))
    path = Line(theta_0, theta_1)
    make_carrier = partial(Carrier, path, sweep.tower, evaluator)
    sweep.along(make_carrier(), evaluator, prepared)  # whatever is loaded when it is needed
    with watched_memory() as sizes:
        carrier = make_carrier()
        sweep.along(carrier, evaluator, prepared)
    predicted, measured = [], []
    for _ in range(rounds):
        machine = machine_of(tower_rates(vision, group, backward=False))
        predicted.append(sweep_seconds(config, machine, job).total())
        measured.append(seconds_of(partial(sweep.along, carrier, evaluator, prepared)))
    memory = sweep_memory(config, machine, batch_size=num_images, group=group)
    return result(f"sweep of 2 alphas x {num_images} images, bf16", predicted, measured, memory, max(sizes) - sizes[0])


def check_interpolation(shape: str, rounds: int, *, quick: bool) -> dict[str, Any]:
    """Predict and measure folder-to-folder interpolation, with files in the system's page cache."""
    model = make_clip(shape, quick=quick)
    folders = FOLDER / "theta_0", FOLDER / "theta_1"
    for folder in folders:
        model.save_pretrained(folder)
        model.load_state_dict(fine_tuned(model.state_dict()))
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if not quick and size != model_bytes(clip_config(shape)):
        raise RuntimeError(f"{shape} has {size} bytes of weights, not {model_bytes(clip_config(shape))}")
    predicted, measured, best = [], [], (0.0, 0.0, 0.0)
    for _ in range(rounds):
        shutil.rmtree(FOLDER / "alpha", ignore_errors=True)
        found = (*cache_rates(folders[0] / "model.safetensors"), chunk_rate())
        read, write, cores = best = tuple(map(max, best, found))
        disk = 3 * size / (2 * size / read + size / write)
        machine = replace(machine_of(Rates(1, 1, 1)), disk=disk, cores=cores)
        predicted.append(interpolation_seconds(clip_config(shape), machine, 1).total())
        measured.append(seconds_of(partial(interpolate_checkpoints, *folders, {0.3: FOLDER / "alpha"})))
    return {"seconds": [("interpolation, one alpha, files in memory", predicted, measured)], "memory": []}


JOBS: dict[str, Callable[..., dict[str, Any]]] = {
    "train": check_training,
    "sweep": check_sweep,
    "interpolate": check_interpolation,
}


def checked_config(shape: str, *, quick: bool) -> CLIPConfig:
    """Return the measured model's config, with a small text tower."""
    config = clip_config(shape)
    config.text_config = type(config.text_config)(**SMALL_TOWER, projection_dim=config.projection_dim)
    if quick:
        config.vision_config.num_hidden_layers = 2
    return config


def machine_of(rates: Rates) -> Machine:
    """Return this machine as the jobs see it: images are decoded and weights hashed beforehand."""
    infinite = dict.fromkeys(("decoding", "hashing", "disk"), float("inf"))
    return Machine(name="", memory=0, network=1, **infinite, **rates._asdict())


def result(name: str, predicted: list[float], measured: list[float], memory: Memory, peak: float) -> dict[str, Any]:
    """Return a job's result; memory is the increase during the job."""
    return {
        "seconds": [(name, predicted, measured)],
        "memory": [(f"{name.partition(' of')[0]}, peak memory", [memory.total() / MIB], [peak / MIB])],
    }


def mapped(weights: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Write weights to a file, and return them memory-mapped, as in a run."""
    path = FOLDER / f"{name}.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, path)
    return load_file(path)


@contextmanager
def watched_memory(*, interval: float = 0.01) -> Iterator[list[float]]:
    """Return free memory to the system, and record the memory in use every few milliseconds."""
    ctypes.CDLL(None).malloc_trim(0)
    sizes, done = [in_memory()], Event()

    def watch() -> None:
        while not done.wait(interval):
            sizes.append(in_memory())

    watcher = Thread(target=watch)
    watcher.start()
    try:
        yield sizes
    finally:
        done.set()
        watcher.join()


def in_memory() -> float:
    """Return the anonymous memory of this process; the system can reclaim mapped file pages at any time."""
    text = Path("/proc/self/status").read_text()
    return 1024 * float(text.partition("RssAnon:")[2].split()[0])


def _row(job: str, predicted: list[float], measured: list[float], unit: str) -> Row:
    ratios = [p / m for p, m in zip(predicted, measured, strict=True)]
    ratio = min(predicted) / min(measured)
    spread = f" ({min(ratios):.2f} to {max(ratios):.2f})" if len(ratios) > 1 else ""
    return Row(
        job=job,
        plain=f"predicted {min(predicted):.3g} {unit}",
        ours=f"measured {min(measured):.3g} {unit}",
        ratio=f"best {ratio:.2f}{spread}",
        target=f"predicted / measured within {WITHIN:.0%} of 1",
        met=abs(ratio - 1) <= WITHIN,
    )


if __name__ == "__main__":
    main()
