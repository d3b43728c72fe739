"""oneDNN's linear layers: equal to PyTorch's within rounding, chosen by measurement on CPUs, and never silently."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torch._dynamo.utils import counters

from hf_paint.models import linear_layers
from hf_paint.models.compilation import compile_blocks
from hf_paint.models.linear_layers import (
    OneDNNLinear,
    choose_onednn,
    measured_choice,
    multiply,
    undo_onednn,
    use_onednn,
)
from hf_paint.models.towers import image_tower


CPU = torch.device("cpu")


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def calls(monkeypatch):
    """What oneDNN is asked to multiply."""
    found, product = [], linear_layers._product
    monkeypatch.setattr(linear_layers, "_product", lambda *x: found.append(x[0].shape) or product(*x))
    return found


@pytest.fixture
def clock(monkeypatch):
    """Lets PyTorch's products take as many seconds as `clock[0]`, and oneDNN's one second."""
    now, seconds = [0.0], [1.0]

    def ways(name, function):
        def timed(*inputs):
            now[0] += seconds[0] if name == "torch" else 1.0
            return function(*inputs)

        return timed

    monkeypatch.setattr(linear_layers.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(linear_layers.functional, "linear", ways("torch", nn.functional.linear))
    monkeypatch.setattr(linear_layers, "multiply", ways("onednn", linear_layers.multiply))
    monkeypatch.setattr(linear_layers, "MEASURED_FROM", 1)
    linear_layers.speedup.cache_clear()
    yield seconds
    linear_layers.speedup.cache_clear()


@pytest.mark.parametrize(("shape", "bias"), [((3, 5, 16), True), ((7, 16), False), ((2, 3, 4, 16), True)])
def test_outputs_and_gradients_are_those_of_the_formula(shape, bias, calls):
    layer, x = nn.Linear(16, 6, bias=bias), drawn(*shape).requires_grad_()
    exact, there = deepcopy(layer).double(), x.detach().double().requires_grad_()
    use_onednn(nn.ModuleList([layer]))
    weights = drawn(*shape[:-1], 6, seed=1)
    output = layer(x)
    (output * weights).sum().backward()
    expected = there @ exact.weight.T + (exact.bias if bias else 0)
    (expected * weights.double()).sum().backward()
    for found, right in [(output, expected), (x.grad, there.grad), (layer.weight.grad, exact.weight.grad)]:
        assert torch.allclose(found.double(), right, atol=1e-5)
    if bias:
        assert torch.allclose(layer.bias.grad.double(), exact.bias.grad, atol=1e-5)
    assert len(calls) == 3
    layer.weight.requires_grad = False
    layer(x.detach())
    with torch.inference_mode():
        assert torch.equal(layer(x), output)
    assert len(calls) == 5


def test_a_bias_need_not_be_contiguous():
    """oneDNN ignores the strides of a bias."""
    x, weight, bias = drawn(3, 16), drawn(6, 16, seed=1), drawn(12, seed=2)[::2]
    assert torch.allclose(multiply(x, weight, bias), x @ weight.T + bias, atol=1e-5)


def test_gradients_of_gradients_are_refused():
    """They would be zeros."""
    x, weight = drawn(3, 16).requires_grad_(), drawn(6, 16, seed=1).requires_grad_()
    [gradient] = torch.autograd.grad(multiply(x, weight, None).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_other_arithmetic_is_left_to_pytorch(calls):
    layer = nn.Linear(8, 4)
    use_onednn(layer)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(drawn(2, 8)).dtype == torch.bfloat16
    assert layer(drawn(0, 8)).shape == (0, 4)
    assert layer(drawn(8)).shape == (4,)
    assert layer.double()(drawn(2, 8).double()).dtype == torch.float64
    assert not calls


def test_a_tower_keeps_its_names_and_weights(model, calls):
    tower, pixels = image_tower(model), drawn(4, 3, 32, 32)
    expected, weights = tower(pixel_values=pixels).image_embeds, list(tower.state_dict())
    use_onednn(tower)
    assert list(tower.state_dict()) == weights
    assert torch.allclose(tower(pixel_values=pixels).image_embeds, expected, atol=1e-6)
    assert calls
    undo_onednn(tower)
    assert not any(isinstance(module, OneDNNLinear) for module in tower.modules())


def test_compiled_it_is_one_graph(model):
    tower, pixels = image_tower(model), drawn(4, 3, 32, 32)
    expected = tower(pixel_values=pixels).image_embeds
    use_onednn(tower)
    torch._dynamo.reset()
    counters.clear()
    compile_blocks(tower, size=4, backward=True, backend="eager")
    compiled = tower(pixel_values=pixels).image_embeds
    compiled.sum().backward()
    assert torch.allclose(compiled, expected, atol=1e-6)
    assert counters["stats"]["unique_graphs"] == 1


@pytest.mark.parametrize(("seconds", "faster"), [(2.1, True), (1.16, True), (1.14, False), (0.9, False)])
def test_the_faster_library_is_chosen_by_one_measurement(model, clock, caplog, seconds, faster):
    clock[0] = seconds
    linear_layers.inform_once.__globals__["_said"].clear()
    caplog.set_level("INFO")
    tower, random = image_tower(model), torch.get_rng_state()
    assert measured_choice(tower, CPU) is faster
    clock[0] = 1.0  # whatever the processor does later
    assert choose_onednn(tower, None, CPU) is faster
    assert any(isinstance(module, OneDNNLinear) for module in tower.modules()) is faster
    assert len([record for record in caplog.records if f"{seconds:.1f} times as fast" in record.message]) == faster
    assert torch.equal(torch.get_rng_state(), random)


def test_only_large_models_on_cpus_are_measured(model, clock, monkeypatch):
    clock[0] = 2.0
    tower = image_tower(model)
    assert measured_choice(tower, torch.device("cuda")) is None
    assert choose_onednn(tower, True, torch.device("cuda")) is False
    monkeypatch.setattr(linear_layers, "MEASURED_FROM", 1e9)
    assert measured_choice(tower, CPU) is None
    assert choose_onednn(tower, None, CPU) is False
    assert choose_onednn(tower, True, CPU) is True


def test_a_pytorch_without_it_uses_its_own_and_says_so(model, clock, monkeypatch, caplog):
    clock[0] = 2.0
    monkeypatch.setattr(linear_layers, "is_available", lambda: False)
    tower = image_tower(model)
    assert measured_choice(tower, CPU) is None
    assert choose_onednn(tower, True, CPU) is False
    assert "This PyTorch has no oneDNN for linear layers." in caplog.text
