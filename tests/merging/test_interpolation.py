import numpy as np
import pytest
import torch
from torch import nn

from hf_paint import InputError, combine, interpolate, interpolated
from tensors import bits


def pair(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    theta_0 = {"moved": torch.randn(64, 33, generator=generator).to(dtype), "frozen": torch.randn(501).to(dtype)}
    theta_1 = {"moved": torch.randn(64, 33, generator=generator).to(dtype), "frozen": theta_0["frozen"].clone()}
    return theta_0, theta_1


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.5, 0.9])
def test_equals_the_formula_in_float64(alpha):
    theta_0, theta_1 = pair()
    expected = (1 - alpha) * theta_0["moved"].double() + alpha * theta_1["moved"].double()
    torch.testing.assert_close(interpolate(theta_0, theta_1, alpha)["moved"].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_ends_are_exact_and_frozen_tensors_never_change(dtype):
    theta_0, theta_1 = pair(dtype)
    theta_0["moved"][0, 0] = -0.0
    theta_1["zero"], theta_0["zero"] = -torch.zeros(3, dtype=dtype), torch.zeros(3, dtype=dtype)
    assert torch.equal(bits(interpolate(theta_0, theta_1, 0)["moved"]), bits(theta_0["moved"]))
    for name in theta_0:
        assert torch.equal(bits(interpolate(theta_0, theta_1, 1)[name]), bits(theta_1[name]))
    for alpha in (0.1, 0.3, 0.7, 0.9):
        assert torch.equal(bits(interpolate(theta_0, theta_1, alpha)["frozen"]), bits(theta_0["frozen"]))


def test_the_written_out_sum_would_change_frozen_tensors():
    frozen = pair()[0]["frozen"]
    assert not torch.equal(0.9 * frozen + 0.1 * frozen, frozen)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    theta_0, theta_1 = pair(dtype)
    x_0, x_1 = (theta["moved"].float().numpy() for theta in (theta_0, theta_1))
    exact = x_0 + np.float32(0.3) * (x_1 - x_0)
    result = interpolate(theta_0, theta_1, 0.3)["moved"]
    assert result.dtype == dtype
    assert torch.equal(result, torch.from_numpy(exact).to(dtype))


def test_three_roundings_on_every_device():
    theta_0, theta_1 = pair()
    x_0, x_1 = theta_0["moved"].numpy(), theta_1["moved"].numpy()
    assert np.array_equal(interpolate(theta_0, theta_1, 0.3)["moved"].numpy(), x_0 + np.float32(0.3) * (x_1 - x_0))


@pytest.mark.parametrize("special", [-0.0, 1e-40, 1.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_weights_equal_on_both_sides_keep_their_bits(dtype, special):
    theta_0, theta_1 = ({"w": torch.tensor([special, end], dtype=dtype)} for end in (0.0, 1.0))
    result = interpolate(theta_0, theta_1, 0.25)["w"]
    assert torch.equal(bits(result[:1]), bits(theta_0["w"][:1]))
    assert result[1] == 0.25


def three_models():
    theta_0, a = pair()
    return theta_0, {"a": a, "b": pair(seed=1)[1] | {"frozen": theta_0["frozen"]}}


def test_combine_equals_the_sum_in_float64():
    theta_0, thetas = three_models()
    start = theta_0["moved"].double()
    moved = {name: theta["moved"].double() - start for name, theta in thetas.items()}
    result = combine(theta_0, thetas, {"b": -0.5, "a": 0.75})
    torch.testing.assert_close(
        result["moved"].double(), start + 0.75 * moved["a"] - 0.5 * moved["b"], rtol=0, atol=2e-6
    )
    assert torch.equal(bits(result["frozen"]), bits(theta_0["frozen"]))


def test_combine_is_exact_where_one_model_is_meant():
    theta_0, thetas = three_models()
    for alphas, expected in (({"a": 0, "b": 0}, theta_0), ({"a": 0, "b": 1}, thetas["b"])):
        result = combine(theta_0, thetas, alphas)
        assert all(torch.equal(bits(result[name]), bits(expected[name])) for name in expected)
        assert result["moved"].data_ptr() != expected["moved"].data_ptr()
    for name, other in (("a", "b"), ("b", "a")):
        result, single = combine(theta_0, thetas, {name: 0.3, other: 0}), interpolate(theta_0, thetas[name], 0.3)
        assert torch.equal(result["moved"], single["moved"])


@pytest.mark.parametrize(
    ("alphas", "message"),
    [
        ({"a": 1}, r"the models are \['a', 'b'\], but coefficients were given for \['a'\]"),
        ({"a": 1, "b": 0, "c": 0}, "needs one coefficient"),
        ({"a": 1, "b": float("nan")}, "'b' must be a finite number, got nan"),
    ],
)
def test_combine_needs_a_number_for_each_model(alphas, message):
    with pytest.raises(InputError, match=message):
        combine(*three_models(), alphas)


def test_combine_names_the_model_that_does_not_fit():
    theta_0, thetas = three_models()
    thetas["b"]["extra"] = torch.zeros(1)
    with pytest.raises(InputError, match="theta_0 and b cannot be interpolated: 1 tensors are only in b: extra"):
        combine(theta_0, thetas, {"a": 0.5, "b": 0.5})


def test_result_shares_no_storage():
    theta_0, theta_1 = pair()
    result = interpolate(theta_0, theta_1, 0.5)
    result["frozen"].zero_()
    assert theta_0["frozen"].abs().sum() > 0


def test_integers_must_agree():
    theta_0, theta_1 = {"ids": torch.arange(3)}, {"ids": torch.arange(3)}
    assert torch.equal(interpolate(theta_0, theta_1, 0.5)["ids"], torch.arange(3))
    with pytest.raises(InputError, match="Integer tensor 'ids' differs"):
        interpolate(theta_0, {"ids": torch.arange(3) + 1}, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.zeros(1)}, "1 tensors are only in theta_1: extra"),
        ({"moved": torch.zeros(2, 33)}, r"differ in shape: moved \(\(64, 33\) and \(2, 33\)\)"),
        ({"moved": torch.zeros(64, 33, dtype=torch.float16)}, "differ in dtype: moved"),
    ],
)
def test_incompatible_weights_are_named(change, message):
    theta_0, theta_1 = pair()
    with pytest.raises(InputError, match=message):
        interpolate(theta_0, theta_1 | change, 0.5)
    with pytest.raises(InputError, match="only in theta_0: frozen"):
        interpolate(theta_0, {"moved": theta_1["moved"]}, 0.5)


@pytest.mark.parametrize("alpha", [-0.1, 1.2, float("nan"), float("inf")])
def test_alpha_out_of_range(alpha):
    with pytest.raises(InputError, match=r"alpha must be in \[0, 1\]"):
        interpolate(*pair(), alpha)


def test_extrapolation_on_request():
    theta_0, theta_1 = pair()
    expected = theta_0["moved"] + 1.5 * (theta_1["moved"] - theta_0["moved"])
    torch.testing.assert_close(interpolate(theta_0, theta_1, 1.5, extrapolate=True)["moved"], expected)


def test_interpolated_restores_also_after_an_error():
    layer = nn.Linear(33, 64)
    own = layer.weight.detach().clone()
    theta_0, theta_1 = {"weight": torch.zeros(64, 33)}, {"weight": torch.ones(64, 33)}
    with pytest.raises(RuntimeError, match="inside"), interpolated(layer, theta_0, theta_1, 0.25) as same:
        assert same is layer
        assert torch.equal(layer.weight, torch.full((64, 33), 0.25))
        raise RuntimeError("inside")
    assert torch.equal(layer.weight, own)


def test_interpolated_names_what_the_model_lacks():
    theta = {"nowhere": torch.zeros(1)}
    with pytest.raises(InputError, match="no tensor 'nowhere'"), interpolated(nn.Linear(1, 1), theta, theta, 0.5):
        pass
