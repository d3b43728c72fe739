"""AdaMerging: coefficients learned without labels."""

import sys
from weakref import WeakSet

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad

from hf_paint import InputError, adamerging
from hf_paint.merging.interpolation import subtract
from hf_paint.models.losses import entropies, relative_entropies


def models(*, dtype=torch.float64):
    """A layer before and after fine-tuning on two tasks, and unlabelled inputs."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    theta_0 = {"weight": draw(3, 6), "bias": draw(3)}
    return theta_0, {n: {k: x + draw(*x.shape) for k, x in theta_0.items()} for n in "ab"}, draw(40, 6)


def adam(gradient_of, free, *, steps, learning_rate):
    """Adam written out (Kingma & Ba, 2015, Algorithm 1)."""
    first, second = torch.zeros_like(free), torch.zeros_like(free)
    for step in range(1, steps + 1):
        gradient = gradient_of(free)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        change = (first / (1 - 0.9**step)) / ((second / (1 - 0.999**step)).sqrt() + 1e-8)
        free = free - learning_rate * change
    return free


def combined(theta_0, thetas, free):
    return {k: v + sum(a * (thetas[n][k] - v) for n, a in zip("ab", free, strict=True)) for k, v in theta_0.items()}


def entropy(logits):
    p = logits.softmax(-1)
    return -(p * p.log()).sum(-1).mean()


def test_task_wise_coefficients_are_gradient_descent_on_the_entropy():
    """Against Adam written out, with gradients by central differences."""
    theta_0, thetas, x = models()
    layer = nn.Linear(6, 3)
    merged = adamerging(theta_0, thetas, lambda theta: entropies(functional_call(layer, theta, x)).mean(), steps=5)

    def value(free):
        mixed = {
            k: v + sum(a * (thetas[n][k] - v) for n, a in zip("ab", free, strict=True)) for k, v in theta_0.items()
        }
        return float(entropy(x @ mixed["weight"].T + mixed["bias"]))

    def gradient(free):
        return torch.stack([torch.tensor((value(free + u) - value(free - u)) / 2e-5) for u in 1e-5 * torch.eye(2)])

    free = adam(gradient, torch.full((2,), 0.3, dtype=torch.float64), steps=5, learning_rate=1e-3)
    assert list(merged.coefficients[None].values()) == pytest.approx(free.tolist(), abs=1e-6)
    expected = {
        k: v + sum(a * (thetas[n][k] - v) for n, a in zip("ab", free, strict=True)) for k, v in theta_0.items()
    }
    for name, tensor in merged.theta.items():
        torch.testing.assert_close(tensor, expected[name].double(), atol=1e-5, rtol=0)


def test_layer_wise_coefficients_against_functional_gradients():
    theta_0, thetas, x = models()
    layer = nn.Linear(6, 3)
    keys = {"steps": 7, "learning_rate": 0.02, "initial": 0.5}
    merged = adamerging(
        theta_0, thetas, lambda theta: entropies(functional_call(layer, theta, x)).mean(), group=str, **keys
    )

    def value(free):
        mixed = {
            k: v + sum(free[i, j] * (thetas[n][k] - v) for j, n in enumerate("ab"))
            for i, (k, v) in enumerate(theta_0.items())
        }
        return entropy(x @ mixed["weight"].T + mixed["bias"])

    free = adam(grad(value), torch.full((2, 2), 0.5, dtype=torch.float64), steps=7, learning_rate=0.02)
    found = [[*values.values()] for values in merged.coefficients.values()]
    torch.testing.assert_close(torch.tensor(found), free.float(), atol=1e-5, rtol=0)
    assert [*merged.coefficients] == ["weight", "bias"]


def test_the_optimum_of_a_quadratic_is_found_within_the_bounds():
    """The nearest combination of two vectors to a target, by least squares; one that is out of reach stays at 1."""
    theta_0 = {"w": torch.tensor([1.0, 1.0, 0.0]), "kept": torch.ones(2)}
    thetas = {"a": {"w": torch.tensor([2.0, 1.0, 1.0])}, "b": {"w": torch.tensor([1.0, 3.0, 0.5])}}
    thetas = {name: theta | {"kept": torch.ones(2)} for name, theta in thetas.items()}
    taus = torch.stack([theta["w"] - theta_0["w"] for theta in thetas.values()])
    for target in (torch.tensor([1.6, 1.8, 0.9]), torch.tensor([9.0, 1.0, 9.0])):

        def loss(theta, target=target):
            return (theta["w"] - target).square().sum()

        merged = adamerging(theta_0, thetas, loss, steps=200, learning_rate=0.02)
        best = torch.linalg.lstsq(taus.T, (target - theta_0["w"])[:, None]).solution[:, 0]
        if best.max() > 1:  # a is out of reach, so it stays at 1, and b is the best beside it
            rest = target - theta_0["w"] - taus[0]
            best = torch.tensor([1.0, float((rest @ taus[1] / (taus[1] @ taus[1])).clamp(0, 1))])
        assert list(merged.coefficients[None].values()) == pytest.approx(best.tolist(), abs=5e-3)
        assert torch.equal(merged.theta["kept"], theta_0["kept"])


def test_task_vectors_are_held_once(monkeypatch):
    """While they are stacked, only those of one tensor exist a second time."""
    theta_0 = {f"w{number}": torch.zeros(2) for number in range(9)}
    thetas = {n: {k: x + 1 for k, x in theta_0.items()} for n in "ab"}
    alive, most = WeakSet(), []

    def watched(*given):
        alive.add(tau := subtract(*given))
        most.append(len(alive))
        return tau

    monkeypatch.setattr(sys.modules["hf_paint.merging.learning"], "subtract", watched)
    adamerging(theta_0, thetas, lambda theta: theta["w0"].sum(), steps=1)
    assert len(most) == 18
    assert max(most) <= 4  # those of the tensor before live until the list is replaced


def test_half_precision_keeps_its_dtype():
    theta_0, thetas, _ = models(dtype=torch.bfloat16)
    merged = adamerging(theta_0, thetas, lambda theta: theta["weight"].float().square().sum(), steps=2)
    assert {tensor.dtype for tensor in merged.theta.values()} == {torch.bfloat16}


def test_no_model():
    with pytest.raises(InputError, match="at least one fine-tuned model, got none"):
        adamerging({"w": torch.zeros(1)}, {}, lambda theta: theta["w"].sum())


def test_entropies_of_padded_candidates():
    """A column of minus infinity is no candidate; the gradient stays finite."""
    logits = torch.tensor([[1.0, 3.0, -torch.inf], [0.5, -1.0, 2.0], [-300.0, 0.0, -torch.inf]], requires_grad=True)
    rows = [torch.tensor([1.0, 3.0]), torch.tensor([0.5, -1.0, 2.0]), torch.tensor([-300.0, 0.0])]
    written = [sum(-p * p.log() for p in row.double().softmax(0) if p > 0) for row in rows]
    found = entropies(logits)
    assert found.tolist() == pytest.approx([float(value) for value in written], abs=1e-6)
    shares = [float(value) / float(torch.tensor(len(row)).log()) for value, row in zip(written, rows, strict=True)]
    assert relative_entropies(logits).tolist() == pytest.approx(shares, abs=1e-6)
    assert relative_entropies(torch.zeros(1, 1)).tolist() == [0.0]
    found.sum().backward()
    assert torch.isfinite(logits.grad).all()
