"""Two processes compared with one, FSDP2 and ZeRO, through `accelerate launch` and the recipe script.

Each launch takes many seconds, so each kind of launch runs all recipes, and the tests read the run folders; the one
process is that of the tests. ZeRO is tested if deepspeed is installed.
"""

import json
import os
import shutil
import socket
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from accelerate.commands.launch import launch_command, launch_command_parser
from accelerate.utils import DistributedType
from safetensors.torch import load_file

from drawn_tasks import write_task_yaml
from forked_calls import Fork
from hf_paint import AlphaCurve, InputError
from hf_paint.cli.main import main
from hf_paint.results.details_log import RunDetails
from hf_paint.training.sharding import check_checkpoint
from scenes_of_colours import write_scenes_yaml


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "recipes" / "accelerate_configs"
ROUNDING_ONLY = "k_proj.bias"  # its gradient is rounding noise: the softmax cancels it
LAUNCHES = {"two": ["cpu.yaml"], "fsdp2": ["fsdp2.yaml", "--num_processes", "2"]}
ZERO = ["zero2", "zero3"]
if find_spec("deepspeed"):
    LAUNCHES |= {launch: [f"deepspeed_{launch}.yaml", "--num_processes", "2"] for launch in ZERO}
SHARDED = {"fsdp2": ("single", "sequential"), **dict.fromkeys(ZERO, ("single", "sequential", "accumulated"))}


def recipes_for(launch, model_folder, data):
    """Name -> recipe."""
    colours, others, kept = (str(data / f"{name}.yaml") for name in ("colours", "others", "kept"))
    batch_size = 16 if launch == "one" else 8  # 101 images make six batches of 16, and one of 5
    line = {
        **{"model": model_folder, "patching_tasks": [colours], "supported_tasks": [others], "use_cpu": True},
        **{"alphas": [0, 0.5, 1], "learning_rate": 1e-4, "max_steps": 9, "warmup_steps": 2},
        **{"per_device_train_batch_size": batch_size, "per_device_eval_batch_size": 8, "disable_tqdm": True},
        "num_examples": 0,
    }
    if launch in ZERO:  # with `use_cpu` accelerate would silently run plain data parallelism
        line |= {"use_cpu": False, "ddp_backend": "gloo"}
    watched = {"alphas": [step / 20 for step in range(21)], "sweep": "adaptive"}
    watched |= {"eval_strategy": "steps", "eval_steps": 3}
    accumulated = {"per_device_train_batch_size": batch_size // 2, "gradient_accumulation_steps": 2}
    sampled = {
        "patching_tasks": [colours, str(data / "scenes.yaml")],
        "max_eval_images": 20,
    }  # one with several labels
    several = line | {"patching_tasks": [colours, others], "supported_tasks": [kept], "max_steps": 4}
    head = {"train_head": True, "head_steps": 4, "head_learning_rate": 1e-2, "supported_tasks": [], "alphas": [1.0]}
    recipes = {
        "single": line | watched | {"save_steps": 4},
        "accumulated": line | accumulated | {"gradient_checkpointing": True},
        "joint": several
        | sampled
        | {"strategy": "joint", "task_sampling": "uniform", "max_steps": 8, "replay_tasks": [kept]}
        | {"augmentation_device": "cuda", "regularization": {"ldifs": 10, "l2_sp": 1}},  # which is the CPU here
        "sequential": several | {"strategy": "sequential"},
        "parallel": several | {"strategy": "parallel", "search_budget": 8},
        "head": line | head | {"selection": "none", "augmentation": "none", "max_steps": 4},
    }
    if launch == "two":  # the recipe of one process
        one = {"per_device_train_batch_size": 2 * batch_size}
        recipes["resumed"] = recipes["single"] | one | {"alphas": [1.0], "sweep": "full"}
    return {name: recipes[name] for name in SHARDED.get(launch, recipes)}


def kill_during_training(whole, killed):
    """Make a copy of a run as it was at its first checkpoint."""
    shutil.copytree(whole / "checkpoint-4", killed / "checkpoint-4")
    shutil.copy(whole / "recipe.yaml", killed)
    identity = json.loads((whole / "identity.json").read_text())
    del identity["content"]["theta_1"]
    (killed / "identity.json").write_text(json.dumps(identity))


def write_recipes(launch, model_folder, folder):
    paths = []
    for name, recipe in recipes_for(launch, model_folder, folder / "data").items():
        paths.append(str(folder / f"{launch}-{name}.yaml"))
        Path(paths[-1]).write_text(yaml.safe_dump(recipe | {"output_dir": str(folder / launch / name)}))
    return paths


def run_here(model_folder, folder):
    """Run all recipes in this process, which is the one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_PAINT_CACHE", str(folder / "one" / "cache"))
        for path in write_recipes("one", model_folder, folder):
            assert main(["patch", "--config", path]) == 0


def run(launch, model_folder, folder):
    """Run all recipes in one launch, and return the output.

    `accelerate launch` runs in a fork, which need not import it again; it starts both processes anew.
    """
    paths = write_recipes(launch, model_folder, folder)
    config, *options = LAUNCHES[launch]
    options += ["--main_process_port", str(free_port())]
    sharded = ["--sharded"] if launch in SHARDED else []
    script = [str(Path(__file__).with_name("patch_each.py")), *sharded, *paths]
    device = {"ACCELERATE_USE_CPU": "true"}
    if launch in ZERO:
        device = {"CUDA_VISIBLE_DEVICES": "", "DS_ACCELERATOR": "cpu"}
    cache = str(folder / launch / "cache")  # another launch's cache would leave no work to distribute

    def accelerate_launch():
        os.environ |= device | {"HF_PAINT_CACHE": cache, "PYTHONPATH": os.pathsep.join(sys.path)}
        launch_command(launch_command_parser().parse_args(["--config_file", str(CONFIGS / config), *options, *script]))

    code, printed = Fork(accelerate_launch).wait(600)
    assert code == 0, printed[-6000:]
    return printed


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


@pytest.fixture(scope="module")
def folder(model_folder, tmp_path_factory):
    """The folder with all runs, and the output of each launch; 37 test images do not divide by two processes."""
    folder = tmp_path_factory.mktemp("processes")
    for seed, name in enumerate(("colours", "others", "kept")):
        write_task_yaml(folder / "data", name, seed=7 * seed, train=112, test=37)
    write_scenes_yaml(folder / "data", train=30, test=37)
    run_here(model_folder, folder)
    kill_during_training(folder / "one" / "single", folder / "two" / "resumed")
    for launch in LAUNCHES:
        (folder / f"{launch}.txt").write_text(run(launch, model_folder, folder))
    return folder


def theta_1(run_folder):
    files = ("model.safetensors", "head.safetensors")
    return {k: v for f in files if (run_folder / f).exists() for k, v in load_file(run_folder / f).items()}


def largest_difference(one, two):
    assert one.keys() == two.keys()
    return max(float((one[name] - two[name]).abs().max()) for name in one if ROUNDING_ONLY not in name)


def records(run_folder):
    return [json.loads(line) for line in (run_folder / "results.jsonl").read_text().splitlines()]


def check_same_run(one, two):
    """Every record has the same counts, and the same alpha is chosen."""
    first, second = records(one), records(two)
    for record, other in zip(first, second, strict=True):
        for key in ("alpha", "task", "split", "correct", "total", "exact", "head", "data"):
            assert record[key] == other[key]
        assert record["mean_average_precision"] == pytest.approx(other["mean_average_precision"], abs=1e-9)
        assert record["loss"] == pytest.approx(other["loss"], abs=1e-4)
    check_same_details(one, two)
    if (one / "selection.json").exists():
        chosen = [json.loads((path / "selection.json").read_text())["alpha"] for path in (one, two)]
        assert chosen[0] == chosen[1]
    return second


def check_same_details(one, two):
    """Every exact evaluation has the same sample of images and, but for rounding, the same probabilities."""
    curves, read = [AlphaCurve.from_run(path) for path in (one, two)], [RunDetails.of_run(path) for path in (one, two)]
    for result in curves[0].results:
        other = curves[1].get(result.alpha, result.role, result.task, result.split)
        first, second = read[0].of(result), read[1].of(other)
        assert (first is not None) == (second is not None) == result.exact
        if first is not None:
            assert first.calibration.images.sum() == result.total
            assert (first.calibration.correct.sum(), first.confusion.images.sum()) == (result.correct, result.total)
            assert first.calibration.ece == pytest.approx(result.ece)
            assert second.calibration.ece == pytest.approx(other.ece)
        if first is not None and result.split == "test":
            assert first.answers.images.tolist() == second.answers.images.tolist()
            assert abs(first.answers.probabilities - second.answers.probabilities).max() < 1e-3


def test_there_were_two(folder):
    """Also, only one of two processes prints the result and the progress."""
    kinds = {"two": "MULTI_CPU", "fsdp2": "FSDP"} | {launch: "DEEPSPEED" for launch in ZERO if launch in LAUNCHES}
    for launch, kind in kinds.items():
        printed = (folder / f"{launch}.txt").read_text()
        assert f"process 0 of 2: DistributedType.{kind}" in printed
        assert f"process 1 of 2: DistributedType.{kind}" in printed
        assert printed.count("Adaptive sweep: ") == 1
        assert printed.count("0 (zero-shot)") == len(list((folder / launch).glob("*/results.jsonl")))


def test_two_processes_equal_one(folder, model_folder):
    """Training crosses an epoch with an incomplete last batch; the evaluated images do not divide by two."""
    found = check_same_run(folder / "one" / "single", folder / "two" / "single")
    assert len(found) >= 21 * 4
    assert {record["exact"] for record in found} == {True, False}
    assert {record["total"] for record in found} == {37, 11}
    state = json.loads((folder / "two" / "single" / "checkpoint-9" / "trainer_state.json").read_text())
    assert (state["train_batch_size"], state["global_step"]) == (8, 9)
    one, two = (theta_1(folder / launch / "single" / "theta_1") for launch in ("one", "two"))
    assert largest_difference(one, two) < 1e-5
    before = load_file(f"{model_folder}/model.safetensors")["visual_projection.weight"]
    assert not torch.equal(one["visual_projection.weight"], before)


@pytest.mark.parametrize("launch", ["one", "two"])
def test_accumulation_equals_whole_batches(launch, folder):
    """Two micro-batches of half the size, recomputed activations: the last step of the epoch has 5 images too."""
    whole = theta_1(folder / "one" / "single" / "theta_1")
    assert largest_difference(whole, theta_1(folder / launch / "accumulated" / "theta_1")) < 1e-5
    check_same_run(folder / "one" / "accumulated", folder / launch / "accumulated")


def test_two_processes_go_on_where_one_stopped(folder):
    """Each of the two takes half of the batch that the recipe gives to one process."""
    assert "16 images (2 processes x per_device_train_batch_size 8" in (folder / "two.txt").read_text()
    one, two = (theta_1(folder / launch / "theta_1") for launch in ("one/single", "two/resumed"))
    assert largest_difference(one, two) < 1e-5


def test_joint_training_is_the_same_with_two_processes(folder):
    """Also with several labels per image, and if only some images are evaluated."""
    found = check_same_run(folder / "one" / "joint", folder / "two" / "joint")
    assert {record["task"] for record in found if record["mean_average_precision"] is not None} == {"scenes"}
    assert {record["total"] for record in found if record["split"] == "test" and record["task"] == "colours"} == {20}
    one, two = (theta_1(folder / launch / "joint" / "theta_1") for launch in ("one", "two"))
    assert largest_difference(one, two) < 1e-5


@pytest.mark.parametrize("strategy", ["sequential", "parallel"])
def test_coefficients_are_the_same_with_two_processes(strategy, folder):
    """Every process searches and chooses on its own, so all must receive the same bits."""
    check_same_run(folder / "one" / strategy, folder / "two" / strategy)


def test_two_processes_train_one_head(folder):
    """The head alone, and then with the image tower: both see the gradients of all processes."""
    one, two = (theta_1(folder / launch / "head" / "theta_1") for launch in ("one", "two"))
    assert largest_difference(one, two) < 1e-4
    before = load_file(folder / "one" / "head" / "theta_0" / "head.safetensors")["head.weight"]
    assert float((one["head.weight"] - before).abs().max()) > 1e-3


def test_heads_have_the_same_bits(folder):
    """The prompts are distributed in whole batches."""
    for head in (folder / "one" / "cache" / "heads").glob("*.safetensors"):
        assert head.read_bytes() == (folder / "two" / "cache" / "heads" / head.name).read_bytes()


@pytest.mark.parametrize(
    ("launch", "shares"),
    [
        ("fsdp2", "0.5 of the parameters"),
        ("zero2", "1.0 of the parameters, 0.5 of the optimizer"),
        ("zero3", "0.5 of the parameters, 0.5 of the optimizer"),
    ],
)
def test_sharded_trainings_save_whole_models(launch, shares, folder, model_folder):
    """Weights sharded during training, and evaluated during it, end up equal to unsharded ones."""
    if launch not in LAUNCHES:
        pytest.skip("deepspeed is not installed")
    for process in (0, 1):
        assert f"process {process} holds {shares}" in (folder / f"{launch}.txt").read_text()
    base = load_file(f"{model_folder}/model.safetensors")
    for name in SHARDED[launch]:
        check_same_run(folder / "one" / name, folder / launch / name)
        for saved in ("theta_1", "checkpoint-9", "patched") if name != "sequential" else ("patched",):
            one, two = (theta_1(folder / which / name / saved) for which in ("one", launch))
            assert {key: tensor.shape for key, tensor in two.items()} == {key: base[key].shape for key in base}
            assert largest_difference(one, two) < 1e-5


def test_checkpoints_of_another_launch_are_refused(folder):
    """Their optimizer state could not be read, and some would silently continue with a new optimizer."""
    kinds = {"one": DistributedType.NO, "two": DistributedType.MULTI_CPU, "fsdp2": DistributedType.FSDP}
    stages = {launch: SimpleNamespace(zero_stage=int(launch[-1])) for launch in ZERO}
    for saved_by, launch in product(["one", *LAUNCHES], repeat=2):
        kind = kinds.get(launch, DistributedType.DEEPSPEED)
        accelerator = SimpleNamespace(
            distributed_type=kind, state=SimpleNamespace(deepspeed_plugin=stages.get(launch))
        )
        checkpoint = str(folder / saved_by / "single" / "checkpoint-9")
        if saved_by == launch or {saved_by, launch} == {"one", "two"}:
            check_checkpoint(accelerator, checkpoint)
        else:
            with pytest.raises(InputError, match="no optimizer state that this training can resume from"):
                check_checkpoint(accelerator, checkpoint)
