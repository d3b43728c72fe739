"""The GPU check of whole runs of the toy CLIP: on the CPU and the card, interrupted and not, in two processes."""

import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import yaml
from common import FOLDER
from gpu_figures import Figure, Figures, Setting, last_error
from gpu_patch import patch
from gpu_processes import Fork
from safetensors.torch import load_file

from hf_paint.cli import run_quickstart


class Run(NamedTuple):
    """A started run."""

    process: subprocess.Popen | Fork
    folder: Path


DATA = FOLDER / "data"
SCRIPT = Path(__file__).with_name("gpu_patch.py")
STEPS = 60


def write_data(setting: Setting) -> None:
    """Write the tasks of the quickstart as YAML files, with fewer drawn images if they only have to work."""
    DATA.mkdir(parents=True, exist_ok=True)
    if setting.tiny:
        run_quickstart.NUM_RENDERED, run_quickstart.NUM_TEST_DIGITS = 40, 100
    for task in (run_quickstart._digits(DATA), run_quickstart._rendered(DATA, "shapes")):
        (DATA / f"{task.name}.yaml").write_text(yaml.safe_dump(task.to_dict()))


def start(setting: Setting, name: str, *, environment: dict[str, str] | None = None, **keys: object) -> Run:
    """Start a run in a process of its own: a fork for tiny shapes, which takes less time than the imports."""
    folder = FOLDER / "runs" / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    variables = {"HF_PAINT_CACHE": str(FOLDER / "caches" / name), "OMP_NUM_THREADS": "2", "PYTHONUNBUFFERED": "1"}
    variables |= environment or {}
    with folder.with_suffix(".log").open("a") as log:
        if setting.tiny:
            return Run(Fork(partial(patch, str(DATA), str(folder), keys), log.fileno(), environment=variables), folder)
        values = [f"{key}={json.dumps(value)}" for key, value in keys.items()]
        command = [sys.executable, str(SCRIPT), str(DATA), str(folder), *values]
        return Run(subprocess.Popen(command, stdout=log, stderr=log, env=os.environ | variables), folder)


def start_two(setting: Setting, name: str, *, port: int, environment: dict[str, str], **keys: object) -> list[Run]:
    """Start a run in two processes, as on two machines with one GPU each."""
    shared = {"WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [start(setting, name, environment=environment | shared | {"RANK": rank}, **keys) for rank in "01"]


def finish(run: Run) -> dict:
    """Wait for a run, and return what it found."""
    if code := run.process.wait():
        error = last_error(run.folder.with_suffix(".log").read_text())
        raise RuntimeError(f"{run.folder.name} failed with exit code {code}: {error}")
    return json.loads((run.folder / "found.json").read_text())


def finish_two(runs: list[Run], *, limit: float = 60.0) -> dict:
    """Wait for both processes of a run; if one of them fails or they hang, end the other."""
    stop = time.monotonic() + limit
    while any(run.process.poll() is None for run in runs):
        if any(run.process.poll() for run in runs) or time.monotonic() > stop:
            time.sleep(1)  # for the other to say what it saw
            for run in runs:
                run.process.kill()
        time.sleep(0.1)
    failed = next((run for run in runs if run.process.poll() not in (0, -signal.SIGKILL)), runs[0])
    return finish(failed)


def theta_1(folder: Path) -> dict[str, torch.Tensor]:
    """Return the fine-tuned weights of a run."""
    [file] = folder.glob("theta_1/model.safetensors")
    return load_file(file)


def difference(one: Path, two: Path) -> float:
    """Return the norm of the difference of two runs' theta_1, relative to how far training went."""
    first, second, base = theta_1(one), theta_1(two), load_file(_toy() / "model.safetensors")
    moved = sum(float((x - base[name]).square().sum()) for name, x in first.items()) ** 0.5
    return sum(float((x - second[name]).square().sum()) for name, x in first.items()) ** 0.5 / moved


def _toy() -> Path:
    import hf_paint

    return Path(hf_paint.__file__).parent / "toy_clip"


def length(setting: Setting) -> dict[str, object]:
    """Return the keys for the length of a run."""
    tiny = {"max_steps": 6, "save_steps": 2, "warmup_steps": 1, "alphas": 1}
    return tiny if setting.tiny else {"max_steps": STEPS, "alphas": 10}


def same(setting: Setting) -> Figures:
    """The toy patched on the CPU and on the card: fp32, with what PyTorch allows by default, and bf16."""
    write_data(setting)
    keys = length(setting)
    cpu = setting.device == "cpu"
    strict = {"NVIDIA_TF32_OVERRIDE": "0"}
    runs = {
        "cpu": start(setting, "cpu", use_cpu=True, **keys),
        "bf16": start(setting, "bf16", use_cpu=cpu, bf16=True, precision="bf16", **keys),
    }
    if not setting.tiny:  # on a CPU, it would be the first run again
        runs["fp32"] = start(setting, "fp32", use_cpu=cpu, environment=strict, **keys)
        runs["fp32 again"] = start(setting, "again", use_cpu=cpu, environment=strict, **keys)
        runs["default"] = start(setting, "default", use_cpu=cpu, **keys)
        runs["compiled"] = start(setting, "compiled", use_cpu=cpu, environment=strict, torch_compile=True, **keys)
        crops = {"augmentation_device": "cuda", "environment": strict}
        runs["crops on the device"] = start(setting, "crops", use_cpu=cpu, **crops, **keys)
    found = {name: finish(run) for name, run in runs.items()}
    for name in list(runs)[1:]:
        expected, correct = found["cpu"]["correct"], found[name]["correct"]
        worst = max(abs(correct[key][0] - count) / total for key, (count, total) in expected.items())
        off = max(abs(correct[key][0] - count) for key, (count, _) in expected.items())
        equal = found[name]["alpha"] == found["cpu"]["alpha"]
        exact = name in ("fp32", "fp32 again", "compiled")
        yield Figure(
            name=f"toy in {name} on {found[name]['device']}, beside the CPU: largest difference in accuracy",
            value=100 * worst,
            unit="points",
            target="same alpha, one image of 500" if exact else "",
            met=equal and worst <= 1 / 500 if exact else None,
            note=f"alpha {found[name]['alpha']}, {found['cpu']['alpha']} on the CPU; {off} images",
        )
        drift = difference(runs["cpu"].folder, runs[name].folder)
        goal = {"target": "at most 1e-3", "met": drift <= 1e-3} if exact else {}
        yield Figure(name=f"toy in {name}: theta_1 beside the CPU's, relative to its move", value=drift, **goal)
    if not setting.tiny:
        drift = difference(runs["fp32"].folder, runs["fp32 again"].folder)
        yield Figure(name="toy in fp32, twice on the same device: theta_1", value=drift)


def faults(setting: Setting) -> Figures:
    """A run killed after its first checkpoint and resumed, with deterministic algorithms, eager and compiled."""
    write_data(setting)
    keys = length(setting) | {"full_determinism": True, "use_cpu": setting.device == "cpu"}
    ways = {"": {"torch_compile": False}} | ({} if setting.tiny else {", compiled": {"torch_compile": True}})
    environment = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
    for number, (name, options) in enumerate(ways.items()):
        options = keys | options | {"environment": environment}
        whole = start(setting, f"whole-{number}", **options)
        killed = kill_after_checkpoint(start(setting, f"killed-{number}", **options))
        resumed = start(setting, f"killed-{number}", **options)
        expected, found = finish(whole), finish(resumed)
        drift = difference(whole.folder, resumed.folder)
        yield Figure(
            name=f"toy killed after a checkpoint and resumed{name}: theta_1 beside the uninterrupted run's",
            value=drift,
            target="bit for bit, same counts",
            met=(killed or setting.tiny) and drift == 0 and expected["correct"] == found["correct"],
            note="" if killed else "it was over before it could be killed",
        )


def kill_after_checkpoint(run: Run, *, limit: float = 60.0) -> bool:
    """Kill a run once it has written a checkpoint, and return whether it was still running."""
    stop = time.monotonic() + limit
    while not any(run.folder.glob("checkpoint-*")) and not any(run.folder.glob("theta_1/checkpoint-*")):
        if run.process.poll() is not None or time.monotonic() > stop:
            break
        time.sleep(0.002)
    was_running = run.process.poll() is None
    run.process.kill()
    run.process.wait()
    return was_running


def many(setting: Setting) -> Figures:
    """Two processes that share the card through gloo, DDP and FSDP2, beside one process: only that the code works."""
    write_data(setting)
    keys = length(setting) | {"use_cpu": setting.device == "cpu"}
    environment = {"NVIDIA_TF32_OVERRIDE": "0"}
    if setting.device == "cpu":
        environment |= {"ACCELERATE_USE_CPU": "true"}
    one = start(setting, "one", environment=environment, **keys)
    keys |= {"per_device_train_batch_size": 32, "ddp_backend": "gloo"}
    sharded = environment | {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_RESHARD_AFTER_FORWARD": "true"}
    sharded |= {"FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP", "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT"}
    sharded |= {"FSDP_TRANSFORMER_CLS_TO_WRAP": "CLIPEncoderLayer"}
    launches = {"DDP": environment, "FSDP2": sharded}
    if setting.device == "cpu":
        del launches["FSDP2"]  # accelerate would silently run DDP; the tests have their own launch for that
    runs = {
        name: start_two(setting, name, port=port, environment=variables, **keys)
        for port, (name, variables) in enumerate(launches.items(), 29600)
    }
    expected = finish(one)
    for name, both in runs.items():
        try:
            found = finish_two(both)
        except RuntimeError as error:
            print(error, flush=True)
            yield Figure(name=f"two processes on one card, {name}: not possible here", note=str(error)[-1500:])
            continue
        drift = difference(one.folder, both[0].folder)
        yield Figure(
            name=f"two processes on one card, {name}: theta_1 beside one process",
            value=drift,
            target="at most 1e-3, same alpha",
            met=drift <= 1e-3 and found["alpha"] == expected["alpha"],
        )
