"""Merging by projection (OPCM), against the algorithm of the paper written out with complete decompositions."""

import pytest
import torch

from hf_paint import InputError, merge_by_projection
from hf_paint.merging.projection import orthogonal_part
from hf_paint.merging.spectral import Decomposition
from opcm import opcm_written_out
from tensors import bits


SHAPES = {"tall": (9, 5), "wide": (4, 11), "square": (6, 6), "bias": (7,), "position_embedding.weight": (5, 6)}
EXACT = Decomposition(torch.float64)


def models(number, *, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw():
        return {name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in SHAPES.items()}

    theta_0 = draw()
    thetas = {
        f"task {i}": {name: theta_0[name] + 0.1 * (i + 1) * x for name, x in draw().items()} for i in range(number)
    }
    return {n: x.to(dtype) for n, x in theta_0.items()}, {
        task: {n: x.to(dtype) for n, x in theta.items()} for task, theta in thetas.items()
    }


@pytest.mark.parametrize("number", [1, 2, 5])
@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.9])
def test_equals_the_paper_written_out(number, threshold):
    theta_0, thetas = models(number)
    found = merge_by_projection(theta_0, thetas, threshold=threshold)
    for name, expected in opcm_written_out(theta_0, thetas, threshold).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("threshold", [0.0, 0.4, 1.0])
def test_what_is_added_is_orthogonal_to_what_was_there(threshold):
    generator = torch.Generator().manual_seed(3)
    for shape in ((9, 5), (4, 11)):
        merged, tau = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        part = orthogonal_part(tau, merged, EXACT, threshold=threshold)
        u, s, vt = torch.linalg.svd(merged, full_matrices=False)
        assert abs(float((part * merged).sum())) < 1e-12
        number = int((s.cumsum(0) / s.sum() <= threshold + 1e-12).sum())
        assert number == {0.0: 0, 1.0: len(s)}.get(threshold, number)
        assert (u[:, :number].T @ part @ vt[:number].T).abs().sum().item() < 1e-12
        assert part.norm() < tau.norm()


def test_models_that_do_not_touch_are_added_and_scaled():
    a, b = torch.zeros(2, 8, 10, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    a[:4, :5] = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    b[4:, 5:] = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    theta_0 = {"w": torch.randn(8, 10, generator=generator, dtype=torch.float64)}
    found = merge_by_projection(theta_0, {"a": {"w": theta_0["w"] + a}, "b": {"w": theta_0["w"] + b}})["w"]
    expected = (a + b) * (a.norm() + b.norm()) / 2 / (a + b).norm()
    torch.testing.assert_close(found - theta_0["w"], expected, rtol=0, atol=1e-12)


def test_the_norm_is_the_mean_of_those_of_the_models_and_the_order_counts():
    theta_0, thetas = models(4, seed=5)

    def norm(theta):
        return torch.cat([(theta[n] - theta_0[n]).flatten() for n in theta_0]).norm()

    merged = merge_by_projection(theta_0, thetas)
    mean = sum(norm(theta) for theta in thetas.values()) / len(thetas)
    torch.testing.assert_close(norm(merged), mean, rtol=1e-12, atol=0)
    other = merge_by_projection(theta_0, dict(reversed(thetas.items())))
    assert not torch.allclose(merged["tall"], other["tall"], atol=1e-3)


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-5), (torch.float16, 1e-2), (torch.bfloat16, 6e-2)])
def test_other_dtypes_and_an_unchanged_tensor(dtype, error):
    theta_0, thetas = models(3, dtype=dtype)
    for theta in thetas.values():
        theta["bias"] = theta_0["bias"].clone()
    found = merge_by_projection(theta_0, thetas)
    assert torch.equal(bits(found["bias"]), bits(theta_0["bias"]))
    expected = opcm_written_out(theta_0, thetas, 0.5)
    for name, x in found.items():
        assert x.dtype == dtype
        torch.testing.assert_close(x.double(), expected[name], rtol=0, atol=error)


def test_bad_input():
    theta_0, thetas = models(2)
    with pytest.raises(
        InputError, match=r"`threshold` of the method 'projection' must be a number in \[0, 1\], got 1.5"
    ):
        merge_by_projection(theta_0, thetas, threshold=1.5)
    with pytest.raises(InputError, match="at least one fine-tuned model, got none"):
        merge_by_projection(theta_0, {})
    thetas["task 1"]["tall"][0, 0] = torch.nan
    with pytest.raises(InputError, match="tall"):
        merge_by_projection(theta_0, thetas)
