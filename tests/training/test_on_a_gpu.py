"""What training does for a GPU, as far as a CPU can show it: it is compiled once, and never waits between logs."""

from copy import deepcopy
from types import SimpleNamespace

import pytest
import torch
import transformers
from torch._dynamo.utils import counters
from transformers import PreTrainedModel, TrainerCallback

from hf_paint.merging.averaging import EMACallback
from hf_paint.models.towers import image_tower
from hf_paint.training import arithmetic, base_trainer
from training_runs import largest_difference, train
from waits import Waits


COMPILED = {"torch_compile": True, "torch_compile_backend": "eager"}
TWO_EPOCHS = {"per_device_train_batch_size": 20, "max_steps": 5}


@pytest.mark.parametrize(
    ("keys", "graphs"),
    [
        ({}, 1),
        ({"bf16": True}, 1),
        ({"gradient_checkpointing": True}, 1),
        ({"train_head": True}, 1),
        ({"use_peft": True}, 2),  # the input of the first layer has no gradient
    ],
)
def test_compiled_it_is_the_same_with_one_graph(model, processor, task, tmp_path, keys, graphs):
    """The last batch of an epoch has fewer images."""
    plain, callbacks = deepcopy(model), [] if keys.get("use_peft") else [EMACallback]
    train(plain, processor, task, tmp_path / "plain", callbacks=callbacks, **TWO_EPOCHS, **keys)
    torch._dynamo.reset()
    counters.clear()
    trainer = train(
        model, processor, task, tmp_path / "compiled", callbacks=callbacks, **TWO_EPOCHS, **COMPILED, **keys
    )
    assert counters["stats"]["unique_graphs"] == graphs
    assert len(trainer.train_dataset) % 20
    assert list(model.state_dict()) == list(plain.state_dict())
    assert largest_difference(model, plain) < 1e-5


def test_whether_it_is_compiled_is_left_to_the_device(model, processor, task, tmp_path, monkeypatch):
    asked, made = [], []

    def pays(model, device, num_images, *, backward):
        asked.append((device.type, num_images, backward))
        return True

    monkeypatch.setattr(base_trainer, "pays", pays)
    monkeypatch.setattr(base_trainer, "compile_blocks", lambda model, **options: made.append(options))
    train(model, processor, task, tmp_path / "left")
    assert asked == [("cpu", 6 * 16, True)]
    assert made == [{"size": 16, "backward": True, "backend": "inductor", "mode": None}]
    train(model, processor, task, tmp_path / "off", torch_compile=False)
    assert len(asked) == len(made) == 1


class Between(TrainerCallback):
    """Watches every step after the first."""

    def __init__(self):
        self.waits, self.steps = Waits(), 0

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step:
            self.waits.__enter__()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step > 1:
            self.waits.__exit__(None, None, None)
            self.steps += 1


@pytest.mark.parametrize("keys", [{}, {"bf16": True, "gradient_accumulation_steps": 2}, {"train_head": True}])
def test_no_step_waits_for_a_value(model, processor, task, tmp_path, keys):
    between = Between()
    callbacks = [between, EMACallback()]
    train(model, processor, task, tmp_path / "run", callbacks=callbacks, logging_strategy="no", max_steps=4, **keys)
    assert between.steps == 3
    assert between.waits.found == []


def test_the_watch_sees_what_waits():
    with Waits() as waits:
        x = torch.ones(2)
        float(x.sum()), bool(x[0] > 0), x[x > 0], torch.equal(x, x)
    assert len(waits.found) == 4


def test_parameters_are_counted_once_and_as_before(model, processor, task, tmp_path, monkeypatch):
    """Counting them at every step took as long as launching a layer."""
    tower, counts, count = type(image_tower(model)), [], PreTrainedModel.num_parameters
    monkeypatch.setattr(tower, "num_parameters", lambda self, **keys: counts.append(keys) or count(self, **keys))
    trainer = train(model, processor, task, tmp_path / "run", logging_strategy="no", max_steps=4)
    assert counts.count({"exclude_embeddings": True}) == 1
    values = 4 * 16 * 3 * 32 * 32
    assert trainer.state.total_flos == 6 * values * count(trainer.model, exclude_embeddings=True)


def test_memory_of_a_failed_attempt_is_freed_before_the_next(model, processor, task, tmp_path, monkeypatch):
    freed, features = [], base_trainer.BaseTrainer.training_step
    monkeypatch.setattr(base_trainer, "clear_device_cache", lambda **options: freed.append(options))

    def step(self, model, inputs, *rest):
        loss = features(self, model, inputs, *rest)
        if len(inputs["labels"]) > 13:
            raise RuntimeError("CUDA out of memory. Tried to allocate")
        return loss

    monkeypatch.setattr(base_trainer.BaseTrainer, "training_step", step)
    train(model, processor, task, tmp_path / "run", auto_find_batch_size=True, max_steps=2, warmup_steps=1)
    assert freed == [{"garbage_collection": True}] * 2  # 16, 14, 12


@pytest.mark.parametrize("keys", [{}, {"bf16": True}, {"fp16": True}, {"tf32": True}])
def test_exact_products_on_a_gpu_are_said_once(caplog, monkeypatch, keys):
    monkeypatch.setattr(arithmetic, "is_torch_tf32_available", lambda: True)
    caplog.set_level("INFO")
    switches = {"bf16": False, "fp16": False, "tf32": False} | keys
    for device in ("cpu", "cuda", "cuda"):
        arithmetic.say_tf32(SimpleNamespace(device=torch.device(device), **switches))
    assert len(caplog.records) == (0 if keys else 1)


class Products(TrainerCallback):
    """Records how exactly a GPU would multiply in float32 at every step."""

    def __init__(self):
        self.found = set()

    def on_step_end(self, *args, **kwargs):
        self.found.add(torch.backends.cuda.matmul.fp32_precision)


def test_a_training_multiplies_as_its_arguments_say(model, processor, task, tmp_path, monkeypatch):
    """Whatever was trained before in the process: transformers leaves TF32 on after compiling in bfloat16."""
    monkeypatch.setattr(transformers.training_args, "is_torch_tf32_available", lambda: True)
    before = torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision
    runs = ({}, {"bf16": True, **COMPILED}, {"tf32": True}, {"torch_compile": False}, COMPILED)
    for number, keys in enumerate(runs):
        products = Products()
        length = {"max_steps": 2, "warmup_steps": 1}
        train(deepcopy(model), processor, task, tmp_path / str(number), callbacks=[products], **length, **keys)
        assert products.found == {"tf32" if "tf32" in keys else "ieee"}
        assert (torch.backends.cuda.matmul.fp32_precision, torch.backends.cudnn.conv.fp32_precision) == before
