"""Fixtures: a tiny random CLIP, tasks of drawn images, and no network."""

import gc
import os
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from accelerate.utils import memory
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor
from transformers.utils import logging

from blank_plots import blank_plots, draw_plots
from drawn_tasks import CLASS_NAMES, write_task, write_task_yaml
from hf_paint import ClassificationHead, PaintTrainingArguments, patch_single
from hf_paint.adapters.patch import save_patch
from hf_paint.cli.main import main
from hf_paint.data.read_once import reading_once
from hf_paint.models.loading import save_clip
from hf_paint.models.towers import image_tower_weights
from hub_client import log_in
from hub_server import HubServer
from word_tokenizer import word_tokenizer


torch.set_num_threads(1)
gc.set_threshold(50_000, 20, 100)  # most of what tests make is freed without a scan
os.fsync = lambda file: None  # which matters when the power fails; no test can tell
memory.clear_device_cache = lambda garbage_collection=False: None  # a full collection before and after each training
logging.disable_progress_bar()
SHARED = Path(os.environ.get("HF_PAINT_SHARED", Path(__file__).parents[3] / "shared"))
IMAGE_SIZE = 32


@pytest.fixture(scope="session", autouse=True)
def _blank_plots():
    """`test_examples.py` and `test_plot_files.py` draw plots, and so do the runs in most other processes."""
    with pytest.MonkeyPatch.context() as patch:
        blank_plots(patch)
        yield


@pytest.fixture
def _drawn_plots(monkeypatch):
    """The plots of runs are drawn in this test."""
    draw_plots(monkeypatch)


@pytest.fixture(scope="session", autouse=True)
def _unsealed_runs():
    """The records of runs have no checksums, as in earlier versions, so that tests may change them by hand."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paint.results.run_folder.seal_run", lambda folder: None)
        yield


@pytest.fixture(scope="session", autouse=True)
def _reports_are_drawn():
    """Every run of every test draws its report; a user keeps a run whose report fails, a test must not."""

    def fail(message):
        raise AssertionError(message)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hf_paint.report.writing.logger.warning", fail)
        yield


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch):
    """What is said once per process is said once per test."""
    monkeypatch.setattr("hf_paint.errors._said", set())


@pytest.fixture(scope="module")
def _data_stay_the_same():
    """The data sets of this module never change, so all its runs together read each of them once."""
    with reading_once():
        yield


@pytest.fixture(scope="session")
def shared():
    """The folder of reference data beside the checkout."""
    if not SHARED.exists():
        pytest.skip("the reference data is not there")
    return SHARED


@pytest.fixture(scope="session")
def processor():
    corpus = [f"a photo of a {name}." for name in CLASS_NAMES] + ["the number one two three", "abc xyz 0123456789"]
    tokenizer = word_tokenizer(corpus)
    tokenizer.model_max_length = 32
    size = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=size)
    return CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


@pytest.fixture(scope="session")
def _base_model(processor):
    torch.manual_seed(0)
    tokens = {name: getattr(processor.tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = {"vocab_size": len(processor.tokenizer), "hidden_size": 32, "intermediate_size": 64}
    vision = {"hidden_size": 48, "intermediate_size": 96, "num_attention_heads": 3, "patch_size": 8}
    layers = {"num_hidden_layers": 2, "projection_dim": 24}
    config = CLIPConfig(
        text_config=text | layers | tokens | {"num_attention_heads": 2, "max_position_embeddings": 32},
        vision_config=vision | layers | {"image_size": IMAGE_SIZE},
        projection_dim=24,
    )
    return CLIPModel(config).eval()


@pytest.fixture
def model(_base_model):
    """A tiny CLIP with random weights, a fresh copy for each test."""
    return deepcopy(_base_model)


@pytest.fixture(scope="session")
def model_folder(_base_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny-clip"
    save_clip(_base_model, processor, folder)
    return str(folder)


@pytest.fixture(scope="session")
def patch_folder(_base_model, tmp_path_factory):
    """A patch of the tiny CLIP with alpha 0.5."""
    folder = tmp_path_factory.mktemp("patch") / "tiny-patch"
    theta_0 = image_tower_weights(_base_model)
    save_patch(theta_0, {name: tensor + 0.01 for name, tensor in theta_0.items()}, folder, alpha=0.5)
    return str(folder)


@pytest.fixture(scope="session")
def adapter_folder(_base_model, tmp_path_factory):
    """A LoRA adapter of rank 4 and scale 2 of the tiny CLIP, with random factors, saved by peft."""
    from peft import LoraConfig, get_peft_model

    layers = r"vision_model.*(q_proj|fc1)"
    torch.manual_seed(0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=layers, init_lora_weights=False)
    folder = tmp_path_factory.mktemp("adapter") / "tiny-adapter"
    get_peft_model(deepcopy(_base_model), config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def classifier_folder(_base_model, processor, tmp_path_factory):
    """The tiny CLIP with a head of two classes beside it."""
    folder = tmp_path_factory.mktemp("classifier") / "tiny-clip"
    save_clip(_base_model, processor, folder)
    ClassificationHead(torch.ones(2, 24), ["cat", "dog"]).save(folder)
    return str(folder)


@pytest.fixture(scope="session")
def finished_run(model_folder, tmp_path_factory):
    """A finished, read-only run of the tiny CLIP on two tasks of drawn images; theta_1 tells the colours apart."""
    folder = tmp_path_factory.mktemp("finished")
    tasks = write_task(folder / "data"), write_task(folder / "data", "others", seed=7)
    keys = {"learning_rate": 1e-3, "max_steps": 20, "warmup_steps": 2, "per_device_train_batch_size": 16}
    args = PaintTrainingArguments(output_dir=str(folder / "run"), use_cpu=True, disable_tqdm=True, **keys)
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=[0.0, 0.5, 1.0])
    return folder / "run"


@pytest.fixture
def task(tmp_path):
    return write_task(tmp_path / "data")


@pytest.fixture
def other_task(tmp_path):
    return write_task(tmp_path / "data", "others", seed=7)


@pytest.fixture
def tasks_folder(tmp_path):
    """A folder with two task YAMLs, colours and others."""
    folder = tmp_path / "tasks"
    write_task_yaml(folder, "colours")
    write_task_yaml(folder, "others", seed=7)
    return folder


@pytest.fixture
def recipe(model_folder, tasks_folder, tmp_path):
    """A function that runs a recipe with some keys changed."""
    values = {
        "model": model_folder,
        "patching_tasks": [str(tasks_folder / "colours.yaml")],
        "supported_tasks": [str(tasks_folder / "others.yaml")],
        "alphas": [0, 0.5, 1],
        "learning_rate": "1e-3",
        "max_steps": 4,
        "warmup_steps": 1,
        "per_device_train_batch_size": 16,
        "use_cpu": True,
        "output_dir": str(tmp_path / "run"),
    }

    def run(*flags, without=(), **changes):
        path = tmp_path / "recipe.yaml"
        path.write_text(yaml.safe_dump({k: v for k, v in (values | changes).items() if k not in without}))
        return main(["patch", "--config", str(path), *flags])

    return run


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A local Hub (see hub_server.py); the client of this process is logged in as `tester`."""
    with HubServer(tmp_path / "hub") as server:
        log_in(server, monkeypatch, HF_HUB_DISABLE_XET="0")
        yield server
