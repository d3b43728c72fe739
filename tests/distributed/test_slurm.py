"""The Slurm script starts one launcher for each machine, with the recipe's flags as they were given."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.launch import launch_command_parser

from slurm import fake_slurm


ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "recipes/slurm/patch.sbatch"
RECORD = f"""#!{sys.executable}
import json, os, sys
open(os.environ["SLURM_PIDS"] + os.environ["SLURM_NODEID"], "w").write(json.dumps(sys.argv[1:]))
sys.exit(int(os.environ["SLURM_NODEID"] == os.environ.get("DEAD")))
"""


def submit(folder, *arguments, **variables):
    """Run the script on two machines with a launcher that only records its arguments, and return its exit code."""
    environment = fake_slurm(folder, nodes=2, processes=4, accelerate=RECORD) | variables
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, timeout=300, check=False).returncode


def test_every_machine_starts_the_same_run_under_its_own_rank(tmp_path):
    arguments = ["--config", "a recipe.yaml", "--templates", "a photo of '{}'", "$HOME"]
    assert submit(tmp_path, *arguments) == 0
    launches = [json.loads((tmp_path / f"pids{node}").read_text()) for node in (0, 1)]
    for rank, launched in enumerate(launches):
        parsed = launch_command_parser().parse_args(["--config_file", "x", *launched[3:]])
        assert launched[:3] == ["launch", "--config_file", "recipes/accelerate_configs/multi_node.yaml"]
        assert (parsed.num_machines, parsed.num_processes, parsed.machine_rank) == (2, 8, rank)
        assert (parsed.main_process_ip, parsed.main_process_port) == ("127.0.0.1", 24711)
        assert [parsed.training_script, *parsed.training_script_args] == ["recipes/patch.py", *arguments]


@pytest.mark.parametrize("dead", ["0", "1"])
def test_a_failing_machine_fails_the_job(dead, tmp_path):
    assert submit(tmp_path, DEAD=dead) == 1


def test_the_files_agree():
    config = yaml.safe_load((SCRIPT.parents[1] / "accelerate_configs/multi_node.yaml").read_text())
    options = [line.removeprefix("#SBATCH ") for line in SCRIPT.read_text().splitlines() if line.startswith("#SBATCH")]
    assert f"--nodes={config['num_machines']}" in options
    assert f"--gpus-per-node={config['num_processes'] // config['num_machines']}" in options
    assert {"--ntasks-per-node=1", "--requeue"} <= set(options)
