"""A sweep's memory in a separate process, as measured by the operating system.

Mapped file pages do not count: the system can reclaim them at any time. The tower is large because of its width; it
sees few patches of few images, because a CPU without bf16 computes slowly in it.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drawn_tasks import write_task_yaml


pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads sizes from /proc")
WATCH = """
import ctypes, gc, json, sys, threading
from pathlib import Path

import torch

torch.set_num_threads(1)


def memory():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # return free memory to the system
    return resident()


def resident():
    return 1024 * int(Path("/proc/self/status").read_text().partition("RssAnon:")[2].split()[0])


def peak_of(function):
    def watch():
        while not done.wait(0.001):
            sizes.append(resident())

    memory()
    sizes, done = [], threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    made = function()
    done.set()
    watcher.join()
    return made, max(sizes)
"""
LARGE = """
size = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 16}
config.vision_config = CLIPVisionConfig(**size, image_size=32, patch_size=16, projection_dim=config.projection_dim)
"""
SWEEP = (
    WATCH
    + """
from accelerate import Accelerator
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPVisionConfig

from hf_paint import get_task, prepare_task, sweep_alphas
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models import image_tower, image_tower_weights
from hf_paint.models.stored import StoredTower

small, task, folder = sys.argv[1:]


def sweep(model, theta_0, theta_1, precision):
    prepared = [prepare_task(get_task(task), model, processor, splits=("test",), cache_dir=folder)]
    evaluator = Evaluator(Accelerator(cpu=True), precision=precision)
    return sweep_alphas(theta_0, theta_1, [0.25, 0.5, 1.0], prepared, model=image_tower(model), evaluator=evaluator)


def fine_tuned(model):
    return {name: tensor + 0.01 for name, tensor in image_tower_weights(model).items()}


processor, config = CLIPProcessor.from_pretrained(small), CLIPConfig.from_pretrained(small)
tiny = CLIPModel(config).eval()
for precision in ("fp32", "bf16"):  # trigger lazy imports
    sweep(tiny, image_tower_weights(tiny), fine_tuned(tiny), precision)
"""
    + LARGE
    + """

def measured(ends, precision):
    start = memory()
    model = CLIPModel(config).eval()
    theta_0 = image_tower_weights(model)
    tower = sum(tensor.nbytes for tensor in theta_0.values())
    theta_1 = fine_tuned(model) if ends == "memory" else None
    if ends == "disk":
        for name in ("theta_0", "theta_1"):
            Path(folder, name).mkdir()
            save_file(theta_0, Path(folder, name, "model.safetensors"))
            theta_0["visual_projection.weight"].data.add_(0.01)
        theta_0, theta_1 = StoredTower(f"{folder}/theta_0"), StoredTower(f"{folder}/theta_1")
    before = memory()
    curve, peak = peak_of(lambda: sweep(model, theta_0, theta_1, precision))
    return [len(curve.alphas), tower, (peak - before) / tower, (peak - start) / tower]


print(json.dumps([measured("memory", "fp32"), measured("disk", "bf16")]))
"""
)
RUN = (
    WATCH
    + """
import pytest
from blank_plots import blank_plots
from transformers import CLIPConfig, CLIPModel, CLIPProcessor, CLIPVisionConfig

from hf_paint import PaintTrainingArguments, PatchOptions, patch_single
from hf_paint.models import save_clip
from hf_paint.patching import finish, line

blank_plots(pytest.MonkeyPatch())
finish.redraw_report = lambda folder: None  # a report's JavaScript takes memory, which is freed at some later time
small, patching, supported, precision, folder = sys.argv[1:]
sweep, peaks = line.sweep_run, []


def watched(*args):
    curve, peak = peak_of(lambda: sweep(*args))
    peaks.append(peak)
    return curve


def patch(name):
    save_clip(CLIPModel(config), processor, f"{folder}/{name}")
    size = Path(folder, name, "model.safetensors").stat().st_size
    steps = {"max_steps": 1, "warmup_steps": 0, "per_device_train_batch_size": 8}
    args = PaintTrainingArguments(f"{folder}/{name}-run", **steps, use_cpu=True)
    options = PatchOptions(precision=precision, num_examples=0)
    patch_single(f"{folder}/{name}", patching, [supported], args, alphas=[0.5, 1.0], options=options)
    return size


line.sweep_run = watched
processor, config = CLIPProcessor.from_pretrained(small), CLIPConfig.from_pretrained(small)
patch("tiny")  # trigger lazy imports
"""
    + LARGE
    + """
start = memory()
size = patch("large")
print(json.dumps([size, (peaks[-1] - start) / size]))
"""
)
EACH = """
import json, sys

for script, arguments in json.loads(sys.argv[1]):
    sys.argv[1:] = arguments
    exec(script, {})
"""


@pytest.fixture(scope="module")
def measured(model_folder, tmp_path_factory):
    """What both scripts say, which run in one process, because it takes long to start one."""
    folders = [tmp_path_factory.mktemp(name) for name in ("sweep", "run")]
    task = write_task_yaml(folders[0] / "task", splits={"train": None, "validation": None, "test": "test"}, test=2)
    tasks = [write_task_yaml(folders[1], name, train=24, test=8) for name in ("colours", "others")]
    return said_by((SWEEP, model_folder, task, folders[0]), (RUN, model_folder, *tasks, "fp32", folders[1]))


def test_a_sweep_holds_one_copy_of_the_tower_beside_the_ends(measured):
    """The given model is theta_0; with theta_1 in memory this makes one model, one delta and the copy."""
    sweeps, _ = measured
    for (num_alphas, tower, by_the_sweep, in_all), (own, whole) in zip(sweeps, [(1, 3), (0.5, 1.5)], strict=True):
        assert (num_alphas, tower > 1e8) == (4, True)
        assert own - 0.1 < by_the_sweep < own + 0.6
        assert in_all < whole + 0.6


def test_the_sweep_of_a_run_holds_one_copy_of_the_tower(measured):
    """theta_0 and theta_1 are in their files; weights, gradients and optimizer of the training are freed."""
    _, (model, in_all) = measured
    assert model > 1e8
    assert 0.5 < in_all < 1.4  # less than one where memory that the training has freed is used again


def said_by(*scripts):
    """Return what each script says in a line that is JSON.

    glibc returns a freed tensor to the system only if it is larger than a threshold, which grows as tensors are freed.
    A fixed one makes the process as large as what it holds, to a few per cent.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**20), "PYTHONPATH": os.pathsep.join(sys.path)}
    given = json.dumps([[script, [*map(str, arguments)]] for script, *arguments in scripts])
    finished = subprocess.run([sys.executable, "-c", EACH, given], capture_output=True, text=True, env=environment)
    assert finished.returncode == 0, finished.stderr[-2000:]
    return [json.loads(line) for line in finished.stdout.splitlines() if line.startswith("[")]
