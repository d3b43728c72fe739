"""LDIFS and L2-SP against a plain torch loop, and what the loss and the weights must not depend on."""

from copy import deepcopy

import pytest
import torch
from torch._dynamo.utils import counters

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, build_zero_shot_head
from hf_paint.data.splits import load_splits
from hf_paint.models.compilation import compile_blocks
from hf_paint.models.towers import image_tower
from hf_paint.training.regularizer import Regularizer
from hf_paint.weights.layers import IMAGE_TOWER
from tiny_families import make
from training_runs import ROUNDING_ONLY, StopAfter, arguments, largest_difference, losses, train


BOTH = {"regularization": {"ldifs": 20.0, "l2_sp": 3.0}}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_task(tmp_path_factory.mktemp("colours"), splits={"validation": None})


def parts(trainer):
    """Both penalties at each step."""
    return [[entry[name] for name in ("ldifs", "l2_sp")] for entry in trainer.state.log_history if "loss" in entry]


def distance(clip, original, pixels):
    """LDIFS written out for two layers: the embeddings, and the output of each, of unit length over the tokens."""
    total = 0.0
    found, kept = (
        model.vision_model(pixel_values=pixels, output_hidden_states=True).hidden_states for model in (clip, original)
    )
    for h, g in zip(found, kept, strict=True):  # (batch, tokens, width)
        h = h / (h**2).sum(1, keepdim=True) ** 0.5
        g = g / (g**2).sum(1, keepdim=True) ** 0.5
        total = total + ((h - g) ** 2).sum((1, 2)) / h[0].numel()
    return total.mean() / 3


def test_equals_a_plain_torch_loop(model, processor, colours, tmp_path):
    """Loss and weights of four steps of gradient descent."""
    original, reference = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 4, "augmentation": "none", "train_sampling_strategy": "sequential", "weight_decay": 0.0}
    keys |= {"optim": "sgd", "learning_rate": 0.1, "max_grad_norm": 0.0, "lr_scheduler_type": "constant"}
    trainer = train(model, processor, colours, tmp_path, warmup_steps=0, **keys, **BOTH)

    rows = load_splits(colours, ("train",))["train"].rows
    head = build_zero_shot_head(reference, processor.tokenizer, rows.features["label"].names, colours.templates)
    tower = {n: p for n, p in reference.named_parameters() if n.startswith(IMAGE_TOWER)}
    start = {n: p.detach().clone() for n, p in tower.items()}
    expected, penalties = [], []
    for step in range(4):
        batch = rows[16 * step : 16 * (step + 1)]
        pixels = processor.image_processor(batch["image"], return_tensors="pt")["pixel_values"]
        logits = head(reference.get_image_features(pixel_values=pixels).pooler_output)
        ldifs = 20.0 * distance(reference, original, pixels)
        l2_sp = 3.0 / 2 * sum(((p - start[n]) ** 2).sum() for n, p in tower.items())
        loss = -logits.log_softmax(-1)[range(16), batch["label"]].mean() + ldifs + l2_sp
        expected.append(float(loss.detach()))
        penalties.append([float(ldifs.detach()), float(l2_sp.detach())])
        for parameter, gradient in zip(tower.values(), torch.autograd.grad(loss, list(tower.values())), strict=True):
            parameter.data -= 0.1 * gradient
    assert penalties[0] == parts(trainer)[0] == [0, 0]
    assert min(penalties[-1]) > 0.01
    assert losses(trainer) == pytest.approx(expected, abs=1e-5)
    assert [x for row in parts(trainer) for x in row] == pytest.approx([x for row in penalties for x in row], rel=1e-3)
    assert largest_difference(model, reference) < 1e-5


def test_a_weight_of_0_changes_no_bit(model, processor, colours, tmp_path):
    other = deepcopy(model)
    plain = train(model, processor, colours, tmp_path, max_steps=3)
    zero = train(other, processor, colours, tmp_path, max_steps=3, regularization={"ldifs": 0, "l2_sp": 0.0})
    assert losses(zero) == losses(plain)
    assert largest_difference(model, other) == 0


def test_a_step_does_not_depend_on_how_it_is_split(model, processor, colours, tmp_path):
    other = deepcopy(model)
    large = train(model, processor, colours, tmp_path, per_device_train_batch_size=32, max_steps=4, **BOTH)
    keys = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "max_steps": 4}
    small = train(other, processor, colours, tmp_path, gradient_checkpointing=True, **keys, **BOTH)
    assert losses(small) == pytest.approx(losses(large), abs=1e-5)
    assert [x for row in parts(small) for x in row] == pytest.approx(
        [x for row in parts(large) for x in row], rel=1e-3
    )
    assert largest_difference(model, other, without=ROUNDING_ONLY) < 1e-5


def test_a_resumed_training_compares_with_the_same_model(model, processor, colours, tmp_path):
    other, keys = deepcopy(model), {"save_strategy": "steps", "save_steps": 3, "bf16": True}
    whole = train(model, processor, colours, tmp_path / "whole", **keys, **BOTH)
    killed = train(deepcopy(other), processor, colours, tmp_path / "cut", callbacks=[StopAfter(3)], **keys, **BOTH)
    resumed = train(other, processor, colours, tmp_path / "cut", resume=True, **keys, **BOTH)
    assert parts(killed)[:3] + parts(resumed)[3:] == parts(whole)
    assert largest_difference(model, other) == 0


def test_an_adapter_compares_with_the_model_without_it(model, processor, colours, tmp_path):
    """No copy of the model is made, and nothing but the adapter moves."""
    original = deepcopy(model)
    trainer = train(model, processor, colours, tmp_path, use_peft=True, lora_dropout=0.5, regularization={"ldifs": 9})
    assert trainer.regularizer.original is trainer.model
    assert trainer.state.log_history[0]["ldifs"] == pytest.approx(0, abs=1e-9)  # dropout meets factors of 0
    assert trainer.state.log_history[-2]["ldifs"] > 1e-6
    assert trainer.model.training
    assert all(p.requires_grad == ("lora" in name) for name, p in trainer.model.named_parameters())
    merged = trainer.model.merge_and_unload().state_dict()
    assert any(not torch.equal(merged[name], x) for name, x in original.state_dict().items() if name in merged)


def test_a_trained_head_counts_as_part_of_theta_0(model, processor, colours, tmp_path):
    keys = {"max_steps": 3, "train_head": True, "regularization": {"l2_sp": 2.0}}
    trainer = PaintTrainer(model, arguments(tmp_path, **keys), train_task=colours, processing_class=processor)
    start = {name: x.detach().clone() for name, x in trainer.model.named_parameters()}
    trainer.train()
    moved = sum(float((x.detach() - start[name]).square().sum()) for name, x in trainer.model.named_parameters())
    found = trainer.regularizer.penalties([], torch.empty(0), None)["l2_sp"]
    assert "head.weight" in start
    assert float(found.detach()) == pytest.approx(moved, rel=1e-5)


@pytest.mark.parametrize(("family", "depths"), [("siglip", 3), ("align", 5), ("metaclip_2", 3), ("chinese_clip", 3)])
def test_all_families_have_features(family, depths):
    tower = image_tower(make(family)[0])
    regularizer = Regularizer(tower, {"ldifs": 1.0})
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with regularizer.hooked(), regularizer.features.recording() as found:
        tower(pixel_values=pixels)
    blocks = len(regularizer.features.blocks)
    assert len(found) == min(depths, blocks + 1)
    assert not any(module._forward_hooks for module in tower.modules())


def test_compiled_blocks_record_their_features(model):
    """With and without a hook, there is one graph for each kind of block."""
    tower = image_tower(model).train()
    regularizer = Regularizer(tower, {"ldifs": 1.0})
    pixels = torch.randn(4, 3, 32, 32)
    torch._dynamo.reset()
    counters.clear()
    with regularizer.hooked():
        with regularizer.features.recording() as plain:
            tower(pixel_values=pixels)
        compile_blocks(tower, size=4, backward=True, backend="eager")
        for _ in range(3):
            with regularizer.features.recording() as found:
                tower(pixel_values=pixels)
    assert [x.tolist() for x in found] == [x.tolist() for x in plain]
    assert all(x.requires_grad for x in found)
    assert counters["stats"]["unique_graphs"] <= 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"ldif": 1}, "got the penalty 'ldif'. Did you mean 'ldifs'?"),
        ({"ldifs": -1}, "got -1 for `ldifs`"),
        ({"ldifs": "much"}, "got 'much' for `ldifs`"),
        ({"ldifs": float("nan")}, "got nan for `ldifs`"),
        ({"ldifs": True}, "got True for `ldifs`"),
        ("ldifs", "like {ldifs: 10}; got 'ldifs'"),
        (["ldifs"], r"got \['ldifs'\]"),
    ],
)
def test_other_weights_are_refused(given, message):
    with pytest.raises(InputError, match=f"^`regularization` must map[^\\n]*{message}"):
        PaintTrainingArguments(output_dir="x", use_cpu=True, regularization=given)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"use_peft": True, "regularization": {"l2_sp": 1}}, "Use `ldifs`"),
        ({"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}, **BOTH}, "Remove"),
    ],
)
def test_what_cannot_be_regularized_is_refused(keys, message):
    with pytest.raises(InputError, match=message):
        PaintTrainingArguments(output_dir="x", use_cpu=True, **keys)


@pytest.mark.parametrize("given", ['{"ldifs": 10, "l2_sp": 1e-3}', "{ldifs: 10, l2_sp: 1e-3}"])
def test_weights_are_numbers_however_they_are_written(given):
    args = PaintTrainingArguments(output_dir="x", use_cpu=True, regularization=given)
    assert args.given()["regularization"] == {"ldifs": 10.0, "l2_sp": 0.001}
