"""The simulation's arithmetic, compared with real models: parameters, saved tensors and operations."""

import os
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import CLIPModel, CLIPVisionConfig, CLIPVisionModelWithProjection


sys.path.insert(0, str(Path(__file__).parent))
with patch.dict(os.environ):  # the benchmarks run in a separate environment
    import scale
    import simulation
    import towers
    from machines import PLANS, PRESETS, PUBLISHED, Job, Machine, Memory, Plan, Seconds

PRODUCTS = {"mm", "addmm", "bmm", "linear", "conv2d", "convolution", "convolution_backward"}
FUSED = "scaled_dot_product"
BATCH = 4


def tower(act="quick_gelu", attention="sdpa"):
    """A small image tower with as many tokens as its width."""
    size = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4}
    config = CLIPVisionConfig(**size, image_size=32, patch_size=4, projection_dim=32, hidden_act=act)
    model = CLIPVisionModelWithProjection(config).train()
    model.set_attn_implementation(attention)
    return model


def forward(model):
    with torch.autocast("cpu", torch.bfloat16):
        return model(pixel_values=torch.randn(BATCH, 3, 32, 32)).image_embeds


class Moved(TorchDispatchMode):
    """Adds up the input and output bytes of all operations except matrix products and views."""

    total = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function._schema.name.split("::")[1]
        given, made = ([x for x in tree_leaves(part) if isinstance(x, torch.Tensor)] for part in ((args, kwargs), out))
        known = {x.untyped_storage().data_ptr() for x in given}
        is_view = all(x.untyped_storage().data_ptr() in known for x in made) and not name.endswith("_")
        if name not in PRODUCTS and FUSED not in name and not is_view:
            self.total += sum(x.nbytes for x in (*given, *made))
        return out


@pytest.mark.parametrize("shape", towers.SHAPES)
def test_parameters_are_those_of_the_model(shape):
    config = towers.clip_config(shape)
    with torch.device("meta"):
        model = CLIPModel(config)
    image = [p for name, p in model.named_parameters() if name.startswith(("vision_model.", "visual_projection."))]
    assert towers.image_parameters(config.vision_config) == sum(p.numel() for p in image)
    assert simulation.model_bytes(config) == 4 * sum(p.numel() for p in model.parameters())
    layer = model.vision_model.encoder.layers[0]
    assert towers.layer_parameters(config.vision_config) == sum(p.numel() for p in layer.parameters())


@pytest.mark.parametrize("shape", ["ViT-B/32", "ViT-H/14"])
def test_operations_are_those_that_torch_counts(shape):
    config = towers.clip_config(shape).vision_config
    with torch.device("meta"):
        model, pixels = CLIPVisionModelWithProjection(config), torch.empty(1, 3, 224, 224)
    model.set_attn_implementation("eager")  # fused attention is not counted on the CPU
    with FlopCounterMode(display=False) as counter:
        model(pixel_values=pixels)
    assert towers.flops_per_image(config) == counter.get_total_flops()


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_activations_are_those_that_autograd_saves(act, attention, checkpointing):
    model = tower(act, attention)
    if checkpointing:
        model.gradient_checkpointing_enable()
    casts = {p.shape for p in model.parameters()} | {p.T.shape for p in model.parameters() if p.ndim == 2}
    held = {}

    def keep(x):
        storage = x.untyped_storage()
        if x.shape not in casts:
            held[storage.data_ptr()] = storage
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = forward(model)
    saved = sum(storage.nbytes() for storage in held.values()) / BATCH
    predicted = towers.saved_bytes(model.config, eager=attention == "eager", checkpointing=checkpointing)
    if checkpointing:  # the inside of a layer is there when its backward pass comes
        config = model.config
        one = towers.saved_bytes(config, eager=attention == "eager") - 2 * 4 * 65 * 64 - 2 * 3 * 32**2
        predicted -= one / config.num_hidden_layers
    assert out.requires_grad
    assert saved == pytest.approx(predicted, rel=0.05)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_bytes_that_are_moved_are_those_of_the_operations(act, attention):
    model = tower(act, attention)
    casts = 6 * sum(p.numel() for p in model.parameters())
    with Moved() as there:
        loss = forward(model).float().sum()
    with Moved() as back:
        loss.backward()
    found = [(moved.total - casts) / BATCH for moved in (there, back)]
    assert found == pytest.approx(towers.training_bytes(model.config, eager=attention == "eager"), rel=0.15)


@pytest.mark.parametrize("act", ["quick_gelu", "gelu"])
def test_bytes_that_an_evaluation_moves(act):
    model = tower(act).eval().bfloat16()
    with torch.no_grad(), Moved() as moved:
        model(pixel_values=torch.randn(BATCH, 3, 32, 32, dtype=torch.bfloat16))
    fused = 2 * 4 * 65 * 64 * 6  # attention reads three tensors and writes one
    assert moved.total / BATCH + fused == pytest.approx(towers.forward_bytes(model.config), rel=0.2)


GPU = Machine(
    name="", memory=80e9, host_memory=1e12, matrix=1e14, elementwise=1e12, disk=1e9, network=1e8, decoding=1e4
)


def test_training_in_written_out_numbers():
    """B/32: 87.8 million parameters; 16 bytes each with AdamW in float32, and the text tower beside them."""
    config, job = towers.clip_config("ViT-B/32"), Job(batch_size=128, num_steps=100)
    memory = simulation.training_memory(config, GPU, Plan(), job)
    assert memory.weights + memory.optimizer + memory.gradients == 16 * 87849216 + 4 * 63428097
    held = 128 * towers.saved_bytes(config.vision_config) + 2 * 87849216  # gradients appear as these are freed
    assert memory.activations == held - 4 * 87849216
    accumulated = simulation.training_memory(config, GPU, Plan(micro_batch=16), job)
    assert accumulated.activations == 16 * towers.saved_bytes(config.vision_config) + 2 * 87849216
    seconds = simulation.training_seconds(config, GPU, Plan(), job)
    assert seconds.matrix_products == pytest.approx(
        100 * 128 * 3 * towers.flops_per_image(config.vision_config) / 1e14
    )
    assert seconds.decoding == 1.28
    slower = simulation.training_seconds(config, GPU, Plan(checkpointing=True), job)
    assert slower.matrix_products == pytest.approx(seconds.matrix_products * 4 / 3)


def test_sharding_divides_what_is_trained():
    config, job = towers.clip_config("18B/14"), Job()
    eight = replace(GPU, devices=8)
    memory = simulation.training_memory(config, eight, PLANS[3], job)
    assert memory.weights == 4 * 17631733760 / 8
    assert (memory.optimizer, memory.gradients) == (17631733760, 17631733760 / 2)
    assert simulation.first_fit(config, eight, job) == PLANS[3]
    assert simulation.first_fit(config, GPU, job) is None
    needed = simulation.devices_needed(config, GPU, job, PLANS[3])
    for devices, limit in ((needed, ""), (needed - 1, "memory: gradients")):
        fewer = simulation.training_memory(config, replace(GPU, devices=devices), PLANS[3], job)
        assert fewer.limit(80e9)[:6] == limit[:6]


def test_several_devices_send_gradients():
    config, job = towers.clip_config("ViT-B/32"), Job(batch_size=128, num_steps=100)
    image = 87849216
    eight, small = replace(GPU, devices=8, link=1e11), Plan(micro_batch=4, sharded=True)
    one, ddp = (simulation.training_memory(config, machine, Plan(micro_batch=4), job) for machine in (GPU, eight))
    assert (one.gradients, ddp.gradients) == (4 * image, 8 * image)  # DDP sends them from a copy
    assert simulation.training_memory(config, eight, small, job).gradients == 2 * image  # whole while they add up
    assert simulation.link_seconds(image, eight, Plan(), job) == 100 * 8 * image / 1e11
    assert simulation.link_seconds(image, eight, small, job) == 100 * (2 + 4 * 4) * image / 1e11


def test_adapters_have_no_optimizer_to_speak_of():
    config = towers.clip_config("ViT-bigG/14")
    memory = simulation.training_memory(config, GPU, PLANS[-1], Job())
    trained = 48 * 16 * (4 * (1664 + 1664) + 2 * (1664 + 8192))  # q, k, v and out, fc1 and fc2
    assert memory.optimizer == 8 * trained
    assert memory.weights == simulation.model_bytes(config) + 4 * trained


def test_the_limit_is_where_the_memory_is_full():
    memory = Memory(weights=40.0, optimizer=30.0, gradients=10.0, activations=20.0)
    limits = [memory.limit(capacity) for capacity in (40, 50, 80, 100, 112)]
    expected = ["memory: weights", "memory: optimizer", "memory: gradients", "memory: activations", ""]
    assert limits == expected
    assert memory.total() == 100


def test_what_overlaps_is_not_added():
    seconds = Seconds(matrix_products=3.0, memory_bandwidth=1.0, decoding=5.0)
    assert (seconds.total(), seconds._replace(overlap=True).total(), seconds.limit()) == (9.0, 5.0, "decoding")
    slower = seconds._replace(memory_bandwidth=2.5)  # decoding finishes before the work does
    assert (slower.limit(), slower._replace(overlap=True).limit()) == ("decoding", "matrix products")


def test_files_in_written_out_numbers():
    config = towers.clip_config("ViT-B/32")  # 605 MB
    seconds = simulation.interpolation_seconds(config, replace(GPU, cores=1e10), 11)
    assert seconds.disk == pytest.approx(13 * 0.605, rel=0.001)
    assert seconds.memory_bandwidth == pytest.approx(11 * 46 * 0.0151, rel=0.01)
    assert simulation.interpolation_seconds(config, GPU, 11, item_size=2).disk == pytest.approx(7.5 * 0.605, rel=0.001)
    pushed = simulation.push_seconds(replace(GPU, hashing=1e9), 1e9)
    assert (pushed.network, pushed.total(), pushed.limit()) == (10.0, 12.0, "network")


@pytest.mark.parametrize("machine", PRESETS, ids=lambda machine: machine.name)
def test_every_model_and_job_has_a_row(machine):
    rows = scale.table(machine, Job()).splitlines()
    assert sum(row.startswith(tuple(f"| {shape}" for shape in towers.SHAPES)) for row in rows) == 4 * len(
        towers.SHAPES
    )
    assert {row.count("|") for row in rows if row.startswith("|")} == {len(scale.HEADER) + 1}


@pytest.mark.parametrize("rate", ["matrix", "elementwise", "link", "disk", "hashing", "decoding", "network"])
def test_every_limit_has_a_remedy(rate):
    slow = replace(PRESETS[1], **{rate: getattr(PRESETS[1], rate) / 1e4})
    limit = {"matrix": "matrix products", "elementwise": "memory bandwidth"}.get(rate, rate)
    assert f"| time: {limit} |" in scale.table(slow, Job())


def test_small_hosts_are_a_limit():
    rows = scale.table(replace(PRESETS[1], host_memory=100e9), Job())
    assert "| 18B/14, 17.6 B | train | 365 GB | memory: host | 1.28e+03 GB beside the devices |" in rows
    assert "| 18B/14, 17.6 B | sweep | 183 GB | memory: host | 652 GB beside the devices |" in rows


@pytest.mark.parametrize("shape", ["ViT-B/32", "ViT-L/14"])
def test_compiled_blocks_move_fewer_bytes_and_take_as_many_operations(shape):
    config, job = towers.clip_config(shape), Job(batch_size=128, num_steps=1)
    eager, compiled = (simulation.training_seconds(config, GPU, Plan(compiled=on), job) for on in (False, True))
    assert compiled.matrix_products == eager.matrix_products
    assert compiled.memory_bandwidth < eager.memory_bandwidth / 1.5
    eager, compiled = (simulation.sweep_seconds(config, GPU, Job(), compiled=on) for on in (False, True))
    assert compiled.matrix_products == eager.matrix_products
    assert compiled.memory_bandwidth < eager.memory_bandwidth


def test_published_rates_are_above_the_assumed_ones():
    for published, assumed in zip(PUBLISHED, (PRESETS[0], PRESETS[2]), strict=True):
        assert published.memory == assumed.memory
        assert published.matrix > assumed.matrix
        assert published.elementwise > assumed.elementwise
