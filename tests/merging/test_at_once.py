"""Weights of many tensors computed at once, compared bit for bit with one tensor at a time."""

import pytest
import torch

from hf_paint.merging.interpolation import bits
from hf_paint.merging.path import AT_ONCE, Line, Span
from hf_paint.results.alphas import Coefficients


NUM = AT_ONCE + 9
SPECIAL = {"w5": -0.0, "w7": -0.0}


def weights(seed):
    generator = torch.Generator().manual_seed(seed)
    made = {f"w{number}": torch.randn(3, 2, generator=generator) for number in range(NUM)}
    return made | {"half": made["w1"].bfloat16(), "double": made["w2"].double(), "count": torch.tensor(3)}


@pytest.fixture(scope="module")
def thetas():
    theta_0, one, two = (weights(seed) for seed in range(3))
    one |= {f"w{number}": theta_0[f"w{number}"].clone() for number in range(0, NUM, 3)}  # frozen
    for name, value in SPECIAL.items():
        for theta in (theta_0, one):
            theta[name][0, 0] = value
    one["w8"][0, 0] = -0.0
    return theta_0, one, two


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0, 1.7, {"one": 1.0}, {"one": 0.2, "two": 0.7}])
def test_they_are_those_of_one_tensor_at_a_time(thetas, alpha, dtype):
    theta_0, one, two = thetas
    several = isinstance(alpha, dict)
    path = Span(theta_0, {"one": one, "two": two}) if several else Line(theta_0, one)
    alpha = Coefficients(alpha) if several else alpha
    at_once = path.to(torch.device("cpu"))
    assert set(at_once._at_once) == theta_0.keys() - SPECIAL.keys() - {"count"}
    into = [{name: x.clone().to(dtype if x.is_floating_point() else x.dtype) for name, x in two.items()} for _ in "ab"]
    path.write(alpha, into[0])
    at_once.write(alpha, into[1])
    assert all(torch.equal(bits(x), bits(into[1][name])) for name, x in into[0].items())
