import pytest
import torch
from torch.func import functional_call, jvp

from hf_paint import InputError, ensemble_logits, interpolate, interpolated
from tensors import bits


def logits(n=60, classes=5):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, n, classes, generator=generator)


@pytest.mark.parametrize("alpha", [0, 0.3, 0.5, 1])
def test_equals_the_formula_and_is_exact_at_the_ends(alpha):
    logits_0, logits_1 = logits()
    result = ensemble_logits(logits_0, logits_1, alpha)
    expected = (1 - alpha) * logits_0.double() + alpha * logits_1.double()
    torch.testing.assert_close(result.double(), expected, rtol=0, atol=1e-6)
    if alpha in (0, 1):
        assert torch.equal(bits(result), bits((logits_0, logits_1)[alpha]))


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.8])
def test_proposition_1_a_linear_model(alpha):
    """For the linearised network, interpolating weights is interpolating outputs; for the network itself it is not."""
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(6, 16), torch.nn.Tanh(), torch.nn.Linear(16, 4)).double()
    theta_0 = {name: p.detach().clone() for name, p in network.named_parameters()}
    theta_1 = {name: p + torch.randn_like(p) for name, p in theta_0.items()}
    x = torch.randn(9, 6, dtype=torch.float64)

    def f(theta):
        return functional_call(network, theta, (x,))

    def linearised(theta):
        change = {name: theta[name] - theta_0[name] for name in theta}
        return sum(jvp(f, (theta_0,), (change,)))

    theta_alpha = interpolate(theta_0, theta_1, alpha)
    ensemble = ensemble_logits(linearised(theta_0), linearised(theta_1), alpha)
    torch.testing.assert_close(linearised(theta_alpha), ensemble, rtol=0, atol=1e-12)
    with torch.no_grad(), interpolated(network, theta_0, theta_1, alpha):
        assert float((network(x) - ensemble_logits(f(theta_0), f(theta_1), alpha)).abs().max()) > 0.05


def test_wrong_inputs():
    logits_0, logits_1 = logits()
    with pytest.raises(InputError, match="the same shape and dtype, got"):
        ensemble_logits(logits_0, logits_1[:1], 0.5)
    with pytest.raises(InputError, match="the same shape and dtype, got"):
        ensemble_logits(logits_0, logits_1.double(), 0.5)
    with pytest.raises(InputError, match="alpha must be in"):
        ensemble_logits(logits_0, logits_1, 1.5)
