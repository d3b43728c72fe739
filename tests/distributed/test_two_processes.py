"""Two processes against one, through `accelerate launch` and the recipe script."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from conftest import write_task_yaml


ROOT = Path(__file__).parents[2]
ROUNDING_ONLY = "k_proj.bias"  # its gradient is rounding noise: the softmax cancels it


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def launch(recipe, processes):
    """Run recipes/patch.py under accelerate and return what it printed."""
    config = ROOT / "recipes" / "accelerate_configs" / ("cpu.yaml" if processes > 1 else "single_gpu.yaml")
    port = ["--main_process_port", str(free_port())] if processes > 1 else []
    command = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(config), *port]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [*command, str(ROOT / "recipes" / "patch.py"), "--config", str(recipe)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_two_processes_equal_one(model_folder, tmp_path):
    """37 test images and batches of 8 do not divide by two processes: duplicates must not be counted."""
    tasks = (
        write_task_yaml(tmp_path, "colours", train=112, test=37),
        write_task_yaml(tmp_path, "others", test=37, seed=7),
    )
    outputs = {}
    for processes, batch_size in ((1, 16), (2, 8)):
        recipe = {
            "model": model_folder,
            "patching_tasks": [tasks[0]],
            "supported_tasks": [tasks[1]],
            "alphas": [step / 20 for step in range(21)],
            "sweep": "adaptive",
            "learning_rate": 1e-4,
            "max_steps": 6,
            "warmup_steps": 2,
            "per_device_train_batch_size": batch_size,
            "per_device_eval_batch_size": 8,
            "use_cpu": True,
            "eval_strategy": "steps",
            "eval_steps": 3,
            "output_dir": str(tmp_path / f"run-{processes}"),
        }
        path = tmp_path / f"recipe-{processes}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        outputs[processes] = launch(path, processes)
    assert outputs[2].count("0 (zero-shot)") == 1  # one process prints
    state = json.loads((tmp_path / "run-2" / "checkpoint-6" / "trainer_state.json").read_text())
    assert state["train_batch_size"] == 8
    assert state["global_step"] == 6
    assert len(list((tmp_path / "run-2" / "checkpoint-6").glob("rng_state_*.pth"))) == 2  # there were two
    records = {}
    for processes in (1, 2):
        lines = (tmp_path / f"run-{processes}" / "results.jsonl").read_text().splitlines()
        records[processes] = [json.loads(line) for line in lines]
    assert len(records[2]) >= 21 * 4
    assert {record["exact"] for record in records[2]} == {True, False}
    for one, two in zip(records[1], records[2], strict=True):
        for key in ("alpha", "task", "split", "correct", "total", "exact", "head", "data"):
            assert one[key] == two[key]
        assert one["loss"] == pytest.approx(two["loss"], abs=1e-4)
    one, two = (load_file(tmp_path / f"run-{n}" / "theta_1" / "model.safetensors") for n in (1, 2))
    differences = {name: float((one[name] - two[name]).abs().max()) for name in one if ROUNDING_ONLY not in name}
    assert max(differences.values()) < 1e-5
    assert not torch.equal(
        one["visual_projection.weight"], load_file(f"{model_folder}/model.safetensors")["visual_projection.weight"]
    )


@pytest.mark.slow
def test_two_processes_train_one_head(model_folder, tmp_path):
    """The head alone, and then with the image tower: both see the gradients of all processes."""
    task = write_task_yaml(tmp_path, "colours", train=112, test=37)
    weights = {}
    for processes, batch_size in ((1, 16), (2, 8)):
        output = tmp_path / f"run-{processes}"
        recipe = {
            **{"model": model_folder, "patching_tasks": [task], "alphas": [1.0], "selection": "none"},
            **{"train_head": True, "head_steps": 4, "head_learning_rate": 1e-2, "learning_rate": 1e-4},
            **{"max_steps": 4, "warmup_steps": 2, "augmentation": "none", "use_cpu": True},
            **{"per_device_train_batch_size": batch_size, "per_device_eval_batch_size": 8, "output_dir": str(output)},
        }
        path = tmp_path / f"recipe-{processes}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        launch(path, processes)
        weights[processes] = load_file(output / "theta_1" / "model.safetensors")
        weights[processes] |= load_file(output / "theta_1" / "head.safetensors")
    assert len(list((tmp_path / "run-2" / "head" / "checkpoint-4").glob("rng_state_*.pth"))) == 2
    one, two = weights[1], weights[2]
    differences = {name: float((one[name] - two[name]).abs().max()) for name in one if ROUNDING_ONLY not in name}
    assert max(differences.values()) < 1e-4
    before = load_file(tmp_path / "run-1" / "theta_0" / "head.safetensors")["head.weight"]
    assert float((one["head.weight"] - before).abs().max()) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["sequential", "parallel"])
def test_coefficients_are_the_same_with_two_processes(strategy, model_folder, tmp_path):
    """Every process searches and chooses by itself: what they are told must be the same to the last bit."""
    tasks = [
        write_task_yaml(tmp_path / "data", name, seed=seed, test=37) for seed, name in enumerate(("a", "b", "kept"))
    ]
    selections, records = {}, {}
    for processes, batch_size in ((1, 16), (2, 8)):
        output = tmp_path / f"run-{processes}"
        recipe = {
            "model": model_folder,
            "strategy": strategy,
            "patching_tasks": [str(path) for path in tasks[:2]],
            "supported_tasks": [str(tasks[2])],
            "alphas": [0, 0.5, 1],
            "learning_rate": 1e-4,
            "max_steps": 4,
            "warmup_steps": 1,
            "per_device_train_batch_size": batch_size,
            "per_device_eval_batch_size": 8,
            "use_cpu": True,
            "output_dir": str(output),
        }
        if strategy == "parallel":
            recipe["search_budget"] = 8
        path = tmp_path / f"recipe-{processes}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        assert launch(path, processes).count("0 (zero-shot)") == 1
        selections[processes] = json.loads((output / "selection.json").read_text())["alpha"]
        lines = (output / "results.jsonl").read_text().splitlines()
        records[processes] = [
            [json.loads(line)[key] for key in ("alpha", "task", "split", "correct", "total")] for line in lines
        ]
    assert selections[1] == selections[2]
    assert records[1] == records[2]
