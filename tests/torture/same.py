"""The same answer, file by file: repeated runs, worker counts, numbers of processes, and interrupted trainings.

Weights, records, selection, card, plots and checkpoints of a run must have the same bytes as those of the undisturbed
run of one process. Left out are the time of a training in `trainer_state.json` and what says how a run was started:
`recipe.yaml` and `training_args.bin` hold the number of workers.

Several processes add up gradients in another order, so their weights are compared with a tolerance, but for the biases
of the keys, which the softmax cancels: their gradients are rounding noise. The counts of every record, the selected
alpha and all files that hold no computed numbers must still be the same.
"""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file
from tally import Budget, Tally
from transformers import TrainerCallback

import hf_paint
from blank_plots import blank_plots
from drawn_tasks import write_task_yaml
from hf_paint.cli.main import main
from hf_paint.patching import fine_tuning
from hf_paint.weights.manifest import MANIFEST


TOY = Path(hf_paint.__file__).parent / "toy_clip"
LAUNCHED = Path(__file__).parents[1] / "distributed" / "patch_each.py"
COMMON = {"model": str(TOY), "alphas": [0, 0.5, 1], "selection": "mean", "learning_rate": 1e-4, "use_cpu": True}
COMMON |= {"max_steps": 7, "warmup_steps": 1, "save_steps": 2, "per_device_train_batch_size": 12, "num_examples": 0}
COMMON |= {"disable_tqdm": True}
KINDS = {
    "single": {},
    "ema": {"method": {"ema": {"decay": 0.5}}},
    "swa": {"method": {"swa": {"start": 0.3, "every": 2}}},
    "lora": {"use_peft": True, "lora_r": 2, "lora_dropout": 0.1},
    "head": {"train_head": True, "head_steps": 3, "selection": "none", "supported_tasks": [], "alphas": [1]},
    "joint": {"strategy": "joint", "task_sampling": "uniform"},
    "sequential": {"strategy": "sequential", "max_steps": 3},
    "parallel": {"strategy": "parallel", "max_steps": 3, "search_budget": 4},
}
SEVERAL = ("joint", "sequential", "parallel")
UNSTABLE = (".lock", "training_args.bin")
"""Files that are locks, or a pickle of how the run was started."""
HOW = ("dataloader_num_workers", "dataloader_persistent_workers", "per_device_train_batch_size")
"""Keys that say how a run was started."""
ROUNDING_ONLY = "k_proj.bias"
TOLERANCE = 1e-5
EXACT = ("tasks.json", "tokenizer.json", ".npy")
"""Endings of files that do not depend on how gradients are added up; `correct/` holds one boolean per image."""
WEIGHTS = r"-[0-9a-f]{8}(?=\.npy$)"
"""Fingerprint of weights in the name of a file."""
LAUNCH_SECONDS = 300
"""Time after which a launch counts as stuck."""

Files = dict[str, bytes]


def torture(budget: Budget) -> Iterator[Tally]:
    """Yield a tally for repeated runs, for worker counts, for interrupted trainings and for several processes."""
    with world() as place:
        expected = {kind: place.run(kind) for kind in KINDS}
        repeated, workers = Tally("repeated, without a cache"), Tally("1 and 3 workers")
        for kind in KINDS:
            with repeated.attempt(kind):
                check_same(place.run(kind, fresh=True), expected[kind])
        yield repeated
        for kind, count in (("single", 1), ("joint", 3)):
            with workers.attempt(f"{kind}, {count} workers"):
                check_same(place.run(kind, dataloader_num_workers=count), expected[kind])
        yield workers
        interrupted, rng, share = Tally("interrupted at a random step"), budget.rng("same"), budget.share(0.5)
        while share.left > 0:
            kind, seed = rng.choice([*KINDS]), rng.random()
            with interrupted.attempt(f"seed {budget.seed}, attempt {interrupted.tried + 1}: {kind}, {seed}"):
                check_interrupted(place, kind, seed, expected[kind])
        yield interrupted
        launched = Tally("2 and 3 processes", notes={"tolerance": f"{TOLERANCE:g}"})
        for count in (2, 3):
            with launched.attempt(f"{count} processes"):
                check_launched(place, count, expected["single"])
        yield launched


class World:
    """A folder with tasks, in which every run has the same path.

    Args:
        folder: Empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.output = folder, folder / "run"
        self.tasks = [
            write_task_yaml(folder / "data", name, seed=7 * i) for i, name in enumerate(("colours", "others", "kept"))
        ]
        os.environ["HF_PAINT_CACHE"] = str(folder / "cache")

    def recipe(self, kind: str, **changes: object) -> Path:
        """Write the recipe of a kind of run, and return its path."""
        patching = self.tasks[: 2 if kind in SEVERAL else 1]
        values = {"patching_tasks": patching, "supported_tasks": self.tasks[2:], "output_dir": str(self.output)}
        path = self.folder / f"{kind}.yaml"
        path.write_text(yaml.safe_dump(COMMON | values | KINDS[kind] | changes))
        return path

    def run(self, kind: str, *, fresh: bool = False, **changes: object) -> Files:
        """Run a recipe from the start, and return all files of its run."""
        shutil.rmtree(self.output, ignore_errors=True)
        if fresh:
            shutil.rmtree(self.folder / "cache", ignore_errors=True)
        return self.go_on(kind, **changes)

    def go_on(self, kind: str, **changes: object) -> Files:
        """Run a recipe in the folder as it is, and return all files of its run."""
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            code = main(["patch", "--config", str(self.recipe(kind, **changes))])
        if code:
            raise AssertionError(f"exit code {code}: {printed.getvalue()[-2000:]}")
        return self.left()

    def left(self) -> Files:
        """Return the files of the run: path -> bytes that must be the same."""
        paths = sorted(path for path in self.output.rglob("*") if path.is_file() and path.name not in UNSTABLE)
        return {path.relative_to(self.output).as_posix(): _stable(path) for path in paths}


@contextmanager
def world() -> Iterator[World]:
    """Yield a world in a temporary folder, with blank plots, which take longest."""
    folder = Path(tempfile.mkdtemp(prefix="hf-paint-same-"))
    with pytest.MonkeyPatch.context() as patch:
        blank_plots(patch)
        patch.setenv("HF_PAINT_CACHE", "")
        try:
            yield World(folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def check_same(found: Files, expected: Files) -> None:
    """Check that two runs left the same files with the same bytes."""
    differing = sorted(name for name in found.keys() | expected.keys() if found.get(name) != expected.get(name))
    if differing:
        raise AssertionError(f"{len(differing)} files differ: {', '.join(differing[:5])}")


def check_interrupted(place: World, kind: str, seed: float, expected: Files) -> None:
    """Interrupt a run at one of its training steps, go on, and compare.

    Args:
        place: Where to run.
        kind: Kind of run.
        seed: Number in [0, 1) that chooses the step, and whether its checkpoint is torn.
        expected: Files of the undisturbed run.
    """
    interrupted = Interruption(1 + int(seed * COMMON["max_steps"]))
    make = fine_tuning.make_trainer
    shutil.rmtree(place.output, ignore_errors=True)
    with pytest.MonkeyPatch.context() as patch:

        def with_interruption(*args: object, callbacks: list[object], **options: object) -> object:
            return make(*args, callbacks=[*callbacks, interrupted], **options)

        patch.setattr(fine_tuning, "make_trainer", with_interruption)
        printed = StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            main(["patch", "--config", str(place.recipe(kind))])
    if not interrupted.done:
        raise AssertionError(f"it was not interrupted: {printed.getvalue()[-2000:]}")
    if int(seed * 1000) % 2:
        tear(place.output, seed)
    check_same(place.go_on(kind), expected)


class Interruption(TrainerCallback):
    """Interrupts the training after a step, before its checkpoint or after it."""

    def __init__(self, step: int) -> None:
        self.step, self.done = step, False

    def on_step_end(self, args, state, control, **kwargs):
        """Interrupt at this step, or at the last one of a shorter training."""
        if not self.done and state.global_step == min(self.step, state.max_steps):
            self.done = True
            raise KeyboardInterrupt


def tear(output: Path, seed: float) -> None:
    """Cut off a part of a file of the last checkpoint."""
    checkpoints = sorted(output.rglob("checkpoint-*"), key=lambda path: path.stat().st_mtime_ns)
    if checkpoints:
        files = sorted(path for path in checkpoints[-1].iterdir() if path.is_file())
        file = files[int(seed * len(files))]
        file.write_bytes(file.read_bytes()[: int(seed * file.stat().st_size)])


def check_launched(place: World, count: int, expected: Files) -> None:
    """Run a recipe in several processes, and compare it with one process up to rounding."""
    shutil.rmtree(place.output, ignore_errors=True)
    whole = COMMON["per_device_train_batch_size"]
    printed = launch(count, place.recipe("single", per_device_train_batch_size=whole // count))
    if f"process 0 of {count}" not in printed:
        raise AssertionError(f"there were not {count} processes: {printed[-2000:]}")
    check_close(place.left(), expected, place.folder)


def launch(count: int, *recipes: Path) -> str:
    """Run recipes with torchrun in several processes on this machine, and return what they print."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        str(count),
        "--master_port",
        str(port),
    ]
    environment = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [*command, str(LAUNCHED), *map(str, recipes)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LAUNCH_SECONDS,
        check=False,
    )
    if done.returncode:
        raise AssertionError(done.stderr[-2000:])
    return done.stdout + done.stderr


def check_close(found: Files, expected: Files, folder: Path) -> None:
    """Check that two runs have the same files, counts and selection, and weights that are equal up to rounding."""
    one, two = ({re.sub(WEIGHTS, "", name): data for name, data in files.items()} for files in (found, expected))
    if missing := {name for name in one.keys() ^ two.keys() if "rng_state" not in name}:
        raise AssertionError(f"only one of them has {sorted(missing)[:5]}")
    for name in sorted(one.keys() & two.keys()):
        last = name.rpartition("/")[2]
        if last in ("model.safetensors", "head.safetensors"):
            check_weights(name, one[name], two[name], folder)
        elif last == "results.jsonl" and counts(one[name]) != counts(two[name]):
            raise AssertionError(f"the counts in {name} differ")
        elif last == "selection.json" and json.loads(one[name])["alpha"] != json.loads(two[name])["alpha"]:
            raise AssertionError(f"the alphas in {name} differ")
        elif last.endswith(EXACT) and one[name] != two[name]:
            raise AssertionError(f"{name} differs")


def check_weights(name: str, found: bytes, expected: bytes, folder: Path) -> None:
    """Check that two weight files have the same tensors up to rounding."""
    tensors = []
    for data in (found, expected):
        (folder / "compared.safetensors").write_bytes(data)
        tensors.append({key: x.clone() for key, x in load_file(folder / "compared.safetensors").items()})
    one, two = tensors
    if one.keys() != two.keys():
        raise AssertionError(f"{name} has other tensors")
    far = {key: float((x - two[key]).abs().max()) for key, x in one.items() if ROUNDING_ONLY not in key}
    worst = max(far, key=far.__getitem__)
    if not far[worst] < TOLERANCE:
        raise AssertionError(f"'{worst}' in {name} differs by {far[worst]:.2g}")


def counts(records: bytes) -> list[tuple[object, ...]]:
    """Return what each record counted."""
    keys = ("alpha", "task", "split", "role", "correct", "total", "exact", "data")
    return [tuple(json.dumps(json.loads(line).get(key)) for key in keys) for line in records.splitlines()]


def _stable(path: Path) -> bytes:
    """Return the bytes of a file without what may differ between equal runs."""
    read: dict[str, Callable[[str], object]] = {"trainer_state.json": json.loads, "recipe.yaml": yaml.safe_load}
    read[MANIFEST] = json.loads
    if path.name not in read:
        return path.read_bytes()
    value = read[path.name](path.read_text())
    return json.dumps(_without(value), sort_keys=True).encode()


def _without(value: object) -> object:
    if isinstance(value, dict):
        timed = ("train_runtime", "per_second")
        left_out = (*HOW, *UNSTABLE, "trainer_state.json", "recipe.yaml")  # the last three in a manifest
        return {k: _without(v) for k, v in value.items() if k not in left_out and not any(t in str(k) for t in timed)}
    return [_without(part) for part in value] if isinstance(value, list) else value
