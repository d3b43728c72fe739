"""Which library multiplies in a float32 training on a CPU: chosen once, and recorded for those who resume it."""

from copy import deepcopy

import pytest
import torch

from hf_paint.models import linear_layers
from hf_paint.models.linear_layers import OneDNNLinear
from training_runs import StopAfter, largest_difference, train


SAVED = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "warmup_steps": 1}


class Products(list):
    """Shapes that were multiplied; `measure` changes what a measurement finds."""


@pytest.fixture
def products(monkeypatch):
    """The shapes that oneDNN multiplies, with a processor on which it is faster."""
    found, product = Products(), linear_layers._product
    monkeypatch.setattr(linear_layers, "_product", lambda *x: found.append(x[0].shape) or product(*x))
    monkeypatch.setattr(linear_layers, "MEASURED_FROM", 1)
    monkeypatch.setattr(linear_layers, "speedup", lambda: 2.0)
    found.measure = lambda speedup: monkeypatch.setattr(linear_layers, "speedup", lambda: speedup)
    return found


def test_training_with_it_is_equal_within_rounding(model, processor, task, tmp_path, products):
    plain = deepcopy(model)
    train(plain, processor, task, tmp_path / "plain", onednn=False, learning_rate=1e-5)
    assert not products
    train(model, processor, task, tmp_path / "onednn", learning_rate=1e-5)
    assert products
    assert largest_difference(model, plain) < 2e-5  # less than two steps of Adam, which blows rounding up
    assert not any(isinstance(module, OneDNNLinear) for module in model.modules())


def test_in_bfloat16_nothing_is_chosen(model, processor, task, tmp_path, products):
    train(model, processor, task, tmp_path / "run", bf16=True, max_steps=2, warmup_steps=1)
    assert not products


@pytest.mark.parametrize(("before", "after"), [(2.0, 1.0), (1.0, 2.0)])
def test_a_resumed_training_multiplies_as_before(model, processor, task, tmp_path, products, before, after):
    """Whatever a measurement says then."""
    whole, start = deepcopy(model), deepcopy(model)
    products.measure(before)
    train(whole, processor, task, tmp_path / "whole", **SAVED)
    train(start, processor, task, tmp_path / "cut", callbacks=[StopAfter(2)], **SAVED)
    used = bool(products)
    assert used is (before > 1)
    products.clear()
    products.measure(after)
    train(model, processor, task, tmp_path / "cut", resume=str(tmp_path / "cut/checkpoint-2"), **SAVED)
    assert bool(products) is used
    assert all(torch.equal(x, whole.state_dict()[name]) for name, x in model.state_dict().items())


def test_a_checkpoint_without_a_record_was_trained_without_it(model, processor, task, tmp_path, products):
    again = deepcopy(model)
    train(model, processor, task, tmp_path / "cut", callbacks=[StopAfter(2)], onednn=False, **SAVED)
    state = tmp_path / "cut/checkpoint-2/trainer_state.json"
    state.write_text(state.read_text().replace('"LinearLayers"', '"Another"'))
    (tmp_path / "cut/checkpoint-2/hf_paint_manifest.json").unlink(missing_ok=True)
    train(again, processor, task, tmp_path / "cut", resume=str(tmp_path / "cut/checkpoint-2"), **SAVED)
    assert not products


def test_restored_callbacks_multiply_as_before(model, processor, task, tmp_path, products):
    """`restore_callback_states_from_checkpoint` makes a callback again from what its checkpoint records."""
    train(deepcopy(model), processor, task, tmp_path / "cut", callbacks=[StopAfter(2)], onednn=True, **SAVED)
    products.clear()
    keys = {"resume": str(tmp_path / "cut/checkpoint-2"), "restore_callback_states_from_checkpoint": True}
    trainer = train(model, processor, task, tmp_path / "cut", onednn=True, **keys, **SAVED)
    assert trainer.state.global_step == 4
    assert products
