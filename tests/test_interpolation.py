import pytest
import torch
from torch import nn

from hf_paint import InputError, interpolate, interpolated


def pair(dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    theta_0 = {"moved": torch.randn(64, 33, generator=generator).to(dtype), "frozen": torch.randn(501).to(dtype)}
    theta_1 = {"moved": torch.randn(64, 33, generator=generator).to(dtype), "frozen": theta_0["frozen"].clone()}
    return theta_0, theta_1


def bits(tensor):
    return tensor.contiguous().view(torch.uint8)


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
    exact = torch.lerp(theta_0["moved"].float(), theta_1["moved"].float(), 0.3)
    result = interpolate(theta_0, theta_1, 0.3)["moved"]
    assert result.dtype == dtype
    assert torch.equal(result, exact.to(dtype))


def test_result_shares_no_storage():
    theta_0, theta_1 = pair()
    result = interpolate(theta_0, theta_1, 0.5)
    result["frozen"].zero_()
    assert theta_0["frozen"].abs().sum() > 0


def test_integers_must_agree():
    theta_0, theta_1 = {"ids": torch.arange(3)}, {"ids": torch.arange(3)}
    assert torch.equal(interpolate(theta_0, theta_1, 0.5)["ids"], torch.arange(3))
    with pytest.raises(InputError, match="'ids' holds integers"):
        interpolate(theta_0, {"ids": torch.arange(3) + 1}, 0.5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"extra": torch.zeros(1)}, "1 tensors are only in theta_1: extra"),
        ({"moved": torch.zeros(2, 33)}, r"differ in shape: moved \(\(64, 33\) against \(2, 33\)\)"),
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
