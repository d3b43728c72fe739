"""Two machines with two processes each, on loopback, against four processes on one machine.

    python tests/acceptance/nodes.py [--folder DIR]

Both train the toy CLIP, the machines through recipes/slurm/patch.sbatch. Then a machine is killed in the
middle of the training, and the job is started again. All three must end with the same bits and the same records.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import yaml


ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/support"))

from drawn_tasks import write_task_yaml  # noqa: E402
from slurm import fake_slurm  # noqa: E402


CONFIG = ROOT / "recipes/accelerate_configs/cpu.yaml"
STEPS, SAVE = 24, 4
SECONDS = 300


def main() -> int:
    """Run and compare; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="where to write; a temporary folder by default")
    folder = parser.parse_args().folder
    with TemporaryDirectory() as temporary:
        return compare(folder or Path(temporary))


def compare(folder: Path) -> int:
    """Make the three runs, and print how they compare."""
    recipe = write_recipe(folder)
    one = finish(start_one(recipe, folder / "one"), folder / "one")
    two = finish(start_two(recipe, folder / "two", job=1), folder / "two")
    dead = kill_a_machine(start_two(recipe, folder / "dead", job=2), folder / "dead")
    resumed = finish(start_two(recipe, folder / "dead", job=3), folder / "dead")
    met = [
        report("two machines x 2 processes, beside 4 processes on one machine", one == two),
        report("a machine was killed: the job failed on both", dead),
        report("the job started again, beside the undisturbed run", one == resumed),
    ]
    return 0 if all(met) else 1


def write_recipe(folder: Path) -> Path:
    """Draw two tasks, and return a recipe for the toy CLIP without its output folder."""
    tasks = [write_task_yaml(folder / "data", name, seed=seed) for seed, name in enumerate(("colours", "others"))]
    recipe = {"model": str(ROOT / "src/hf_paint/toy_clip"), "patching_tasks": tasks[:1], "supported_tasks": tasks[1:]}
    recipe |= {"alphas": [0, 0.5, 1], "use_cpu": True, "max_steps": STEPS, "save_steps": SAVE, "warmup_steps": 2}
    recipe |= {"per_device_train_batch_size": 4, "disable_tqdm": True, "learning_rate": 1e-4, "num_examples": 0}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    return path


def environment(run: Path) -> dict[str, str]:
    """Return the variables of processes on a CPU, with a cache of their own."""
    variables = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_PAINT_CACHE": str(run) + "-cache"}
    return os.environ | variables


def start_one(recipe: Path, run: Path) -> subprocess.Popen:
    """Start four processes on one machine."""
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG), "--num_processes=4"]
    command += ["recipes/patch.py", "--config", str(recipe), "--output_dir", str(run)]
    return started(command, run, environment(run))


def start_two(recipe: Path, run: Path, *, job: int) -> subprocess.Popen:
    """Start two machines with two processes each, through the Slurm script."""
    launcher = f'#!/usr/bin/env bash\nshift\nexec {sys.executable} -m accelerate.commands.launch "$@"\n'
    slurm = fake_slurm(run.with_name(f"{run.name}-slurm"), nodes=2, processes=2, job=job, accelerate=launcher)
    arguments = ["--config", str(recipe), "--output_dir", str(run)]
    return started(["bash", "recipes/slurm/patch.sbatch", *arguments], run, environment(run) | slurm)


def started(command: list[str], run: Path, variables: dict[str, str]) -> subprocess.Popen:
    """Start a command whose output goes to a log beside the run."""
    with run.with_suffix(".log").open("a") as log:
        return subprocess.Popen(command, cwd=ROOT, env=variables, stdout=log, stderr=log)


def finish(process: subprocess.Popen, run: Path) -> dict[str, object]:
    """Wait for a run, and return the bytes of theta_1 and what is on record."""
    if process.wait(SECONDS):
        raise SystemExit(f"{run.name} failed:\n{run.with_suffix('.log').read_text()[-3000:]}")
    lines = (run / "results.jsonl").read_text(encoding="utf-8").splitlines()
    keys = ("alpha", "task", "split", "correct", "total", "loss", "weights")
    return {
        "theta_1": (run / "theta_1/model.safetensors").read_bytes(),
        "records": sorted(str([json.loads(line)[key] for key in keys]) for line in lines),
    }


def kill_a_machine(process: subprocess.Popen, run: Path) -> bool:
    """Kill all processes of the second machine after the first checkpoint; return whether the whole job then fails."""
    stop = time.monotonic() + SECONDS
    while not any(run.glob(f"checkpoint-{SAVE}/trainer_state.json")) and time.monotonic() < stop:
        time.sleep(0.05)
    machine = int((run.with_name(f"{run.name}-slurm") / "pids").read_text().split()[1])
    os.killpg(machine, signal.SIGKILL)
    failed = process.wait(SECONDS) != 0
    return failed and not (run / "theta_1").exists()


def report(what: str, met: bool) -> bool:
    """Print whether a comparison holds."""
    print(f"{'same' if met else 'DIFFERENT'}: {what}", flush=True)
    return met


if __name__ == "__main__":
    sys.exit(main())
