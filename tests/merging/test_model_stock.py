import pytest
import torch

from hf_paint import InputError, interpolate_model_stock, layer_index
from hf_paint.merging.model_stock import model_stock_alphas
from tensors import bits, models, taus


def near(theta_0, k=3, spread=0.8):
    """Fine-tuned models that share a direction."""
    generator = torch.Generator().manual_seed(1)
    shared = {name: torch.randn(theta_0[name].shape, generator=generator) for name in ("w", "b")}
    return {
        model: theta_0
        | {n: theta_0[n] + t + spread * torch.randn(t.shape, generator=generator) for n, t in shared.items()}
        for model in "abcde"[:k]
    }


def written_out_t(vectors):
    k = len(vectors)
    cosines = [
        float((vectors[i] * vectors[j]).sum() / vectors[i].norm() / vectors[j].norm())
        for i in range(k)
        for j in range(k)
        if i != j
    ]
    cos = sum(cosines) / len(cosines)
    return k * cos / (1 + (k - 1) * cos)


@pytest.mark.parametrize("k", [2, 3, 5])
def test_equals_the_formula_in_float64(k):
    theta_0, _ = models()
    thetas = near(theta_0, k)
    result, alphas = interpolate_model_stock(theta_0, thetas), model_stock_alphas(theta_0, thetas)
    for name in ("w", "b"):
        vectors = taus(theta_0, thetas, name)
        t = written_out_t(vectors)
        assert 0.5 < t < 1
        assert alphas[name] == pytest.approx(t, abs=1e-6)
        expected = (1 - t) * theta_0[name].double() + t * (theta_0[name].double() + sum(vectors) / k)
        torch.testing.assert_close(result[name].double(), expected, rtol=0, atol=2e-6)
    assert all(torch.equal(bits(result[name]), bits(theta_0[name])) for name in ("specials", "ids"))


def test_two_models_are_the_papers_first_case():
    """t = 2 cos / (1 + cos): at 60 degrees two thirds."""
    a, b = torch.tensor([1.0, 0.0]), torch.tensor([0.5, 3**0.5 / 2])
    assert model_stock_alphas({"w": torch.zeros(2)}, {"a": {"w": a}, "b": {"w": b}})["w"] == pytest.approx(2 / 3)


def test_the_point_is_on_the_line_from_theta_0_to_the_mean():
    """With task vectors of equal length, theta_1 is `t` of the way to their mean."""
    a, b = torch.tensor([2.0, 1.0]), torch.tensor([2.0, -1.0])
    (x, y) = interpolate_model_stock({"w": torch.zeros(2)}, {"a": {"w": a}, "b": {"w": b}})["w"].tolist()
    cos = (2 * 2 - 1) / 5
    assert (x, y) == pytest.approx((2 * 2 * cos / (1 + cos), 0))


def test_one_angle_for_a_layer():
    names = [f"vision_model.encoder.layers.{i}.{part}" for i in range(2) for part in ("w", "b")]
    theta_0, _ = models()
    thetas = near(theta_0)

    def rename(theta):
        return {name: theta[name[-1]] * (1 + int(name[-3])) for name in names}

    renamed = {m: rename(t) for m, t in thetas.items()}
    alphas = model_stock_alphas(rename(theta_0), renamed, group=layer_index)
    both = taus(theta_0, thetas), taus(theta_0, thetas, "b")
    whole = [torch.cat([t.flatten() for t in pair]) for pair in zip(*both, strict=True)]
    assert set(alphas) == {1, 2}
    assert list(alphas.values()) == pytest.approx([written_out_t(whole)] * 2, abs=1e-6)


def test_models_that_share_nothing_stay_at_theta_0():
    theta_0 = {"w": torch.zeros(2)}
    opposite = {"a": {"w": torch.tensor([1.0, 0.0])}, "b": {"w": torch.tensor([-1.0, 0.1])}}
    assert torch.equal(interpolate_model_stock(theta_0, opposite)["w"], theta_0["w"])
    with pytest.raises(InputError, match="at least two fine-tuned models, got 1"):
        interpolate_model_stock(theta_0, {"a": opposite["a"]})
