"""Compiling the repeated blocks of image towers. The backend `eager` finds graphs without compiling them."""

from copy import deepcopy

import pytest
import torch
from torch._dynamo.utils import counters

from hf_paint.models.compilation import (
    PAYS_FROM,
    compile_blocks,
    is_compiled,
    operations_per_image,
    pays,
    repeated_blocks,
    undo_compilation,
)
from hf_paint.models.towers import image_tower
from tiny_families import make


@pytest.fixture(autouse=True)
def _no_graphs():
    torch._dynamo.reset()
    counters.clear()


def graphs():
    return counters["stats"]["unique_graphs"]


def pixels(number):
    return torch.randn(number, 3, 32, 32, generator=torch.Generator().manual_seed(number))


def embed(tower, number):
    return tower(pixel_values=pixels(number)).image_embeds


@pytest.mark.parametrize("family", ["siglip", "metaclip_2", "chinese_clip", "align"])
def test_one_graph_serves_all_blocks_and_all_weights(family):
    tower = image_tower(make(family)[0])
    plain, names = deepcopy(tower), list(tower.state_dict())
    compile_blocks(tower, size=4, backward=False, backend="eager")
    with torch.no_grad():
        for scale in (1.0, 1.1):
            for parameter, own in zip(tower.parameters(), plain.parameters(), strict=True):
                parameter.copy_(scale * own)
                own.copy_(parameter)
            for number in (4, 3, 4, 1):
                assert torch.allclose(embed(tower, number), embed(plain, number), atol=1e-6)
    assert graphs() == 1
    assert embed(tower, 4).requires_grad  # a pass of the other kind
    assert graphs() == 1
    assert list(tower.state_dict()) == names
    assert is_compiled(tower)
    assert not is_compiled(deepcopy(tower))
    undo_compilation(tower)
    assert not is_compiled(tower)


def test_what_the_user_compiled_stays(model):
    tower = image_tower(model)
    own = tower.vision_model.post_layernorm
    own.compile(backend="eager")
    assert not is_compiled(tower)
    undo_compilation(tower)
    assert own._compiled_call_impl is not None


def test_a_compiler_that_fails_is_said_once_and_loses_nothing(model, caplog):
    def broken(graph, inputs):
        raise RuntimeError("there is no\nC compiler")

    tower = image_tower(model)
    expected = embed(tower, 2)
    compile_blocks(tower, size=2, backward=True, backend=broken)
    for _ in range(2):
        assert torch.equal(embed(tower, 2), expected)
    [record] = [record for record in caplog.records if "torch.compile" in record.message]
    assert "no C compiler" in record.message
    assert "\n" not in record.message


def test_errors_of_the_model_itself_are_raised(model):
    tower = image_tower(model)
    compile_blocks(tower, size=2, backward=True, backend="eager")

    def out_of_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    for block in repeated_blocks(tower):
        block._compiled_call_impl = type(block._compiled_call_impl)(
            block._compiled_call_impl.kind, block._call_impl, out_of_memory
        )
    with pytest.raises(torch.OutOfMemoryError):
        embed(tower, 2)


@pytest.mark.parametrize("family", ["siglip", "metaclip_2"])
def test_operations_are_those_of_the_linear_layers_that_run(family):
    tower, found = image_tower(make(family)[0]), []
    for block in tower.vision_model.encoder.layers:
        for layer in block.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.register_forward_hook(lambda layer, x, y: found.append(2 * y.numel() * layer.in_features))
    embed(tower, 1)
    extra = 2 if family == "metaclip_2" else 2 * 17 / 16  # SigLIP has no class token, and is counted with one
    assert operations_per_image(tower) == sum(found) * extra / 2


def test_it_pays_on_a_gpu_for_long_work(model):
    tower, gpu = image_tower(model), torch.device("cuda")
    enough = int(PAYS_FROM / operations_per_image(tower)) + 1
    assert pays(tower, gpu, enough, backward=False)
    assert not pays(tower, gpu, enough // 2, backward=False)
    assert pays(tower, gpu, enough // 2, backward=True)
    assert not pays(tower, torch.device("cpu"), 10**12, backward=True)
    assert not pays(image_tower(make("align")[0]), gpu, 10**12, backward=True)
