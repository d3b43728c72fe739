import pytest
import torch

from hf_paint import InputError, add_task_vectors, dare, ties
from hf_paint.fingerprints import fingerprint_values
from tensors import bits, models, taus


@pytest.mark.parametrize("scale", [0.3, -1.0, 2.0])
def test_sum_with_a_scale(scale):
    theta_0, thetas = models()
    result = add_task_vectors(theta_0, thetas, scale)
    expected = theta_0["w"].double() + scale * sum(taus(theta_0, thetas))
    torch.testing.assert_close(result["w"].double(), expected, rtol=0, atol=1e-5)


def written_out_ties(theta_0, thetas, scale, density):
    """Entry by entry, over the whole model."""
    vectors = {m: torch.cat([(t[n] - theta_0[n]).flatten() for n in ("w", "b")]).double() for m, t in thetas.items()}
    trimmed = []
    for vector in vectors.values():
        order = vector.abs().argsort(descending=True)
        kept = torch.zeros_like(vector)
        kept[order[: int(density * len(vector))]] = 1
        trimmed.append((vector * kept).tolist())
    merged = []
    for entries in zip(*trimmed, strict=True):
        sign = 1 if sum(entries) >= 0 else -1
        agreeing = [entry for entry in entries if entry * sign > 0]
        merged.append(sum(agreeing) / len(agreeing) if agreeing else 0.0)
    whole = torch.cat([theta_0[n].flatten() for n in ("w", "b")]).double() + scale * torch.tensor(merged).double()
    return {"w": whole[: 64 * 33].view(64, 33), "b": whole[64 * 33 :]}


@pytest.mark.parametrize("density", [0.1, 0.2, 0.7, 1.0])
@pytest.mark.parametrize("scale", [0.4, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ties_equals_the_three_steps_written_out(density, scale, dtype):
    theta_0, thetas = models(dtype=dtype)
    result, expected = ties(theta_0, thetas, scale, density=density), written_out_ties(theta_0, thetas, scale, density)
    for name in ("w", "b"):
        torch.testing.assert_close(result[name].double(), expected[name], rtol=0, atol=2e-6)


def test_ties_keeps_what_is_tied_with_the_smallest():
    """Of 1, 1, 1, 3, two are to be kept; 1e-30 and 1 + 2**-23 differ from their neighbours in the last bits only."""
    theta_0 = {"w": torch.zeros(4), "b": torch.zeros(2)}
    tied = {"w": torch.tensor([1.0, -1.0, 1.0, 3.0]), "b": torch.zeros(2)}
    assert ties(theta_0, {"a": tied}, density=0.5)["w"].tolist() == [1, -1, 1, 3]
    close = {"w": torch.tensor([1.0, 1 + 2**-23, -(1 + 2**-22), 1e-30]), "b": torch.zeros(2)}
    assert ties(theta_0, {"a": close}, density=0.5)["w"].tolist() == [0, 1 + 2**-23, -(1 + 2**-22), 0]


@pytest.mark.parametrize("density", [0.2, 0.5])
def test_the_same_as_peft(density, monkeypatch):
    """With one tensor, because peft trims each tensor separately. The masks of `dare` replace its random ones."""
    merge_utils = pytest.importorskip("peft.utils.merge_utils")
    theta_0, thetas = models()
    theta_0, thetas = {"w": theta_0["w"]}, {name: {"w": theta["w"]} for name, theta in thetas.items()}
    vectors = [theta["w"] - theta_0["w"] for theta in thetas.values()]
    weights = torch.full((3,), 0.4)

    def assert_equal(result, theirs):
        torch.testing.assert_close(result["w"], theta_0["w"] + theirs, rtol=0, atol=2e-6)

    assert_equal(add_task_vectors(theta_0, thetas, 0.4), merge_utils.task_arithmetic(vectors, weights))
    assert_equal(ties(theta_0, thetas, 0.4, density=density), merge_utils.ties(vectors, weights, density))
    alone = ties(theta_0, {"a": thetas["a"]}, 0.4, density=density)
    assert_equal(alone, merge_utils.magnitude_prune(vectors[:1], weights[:1], density))

    result = dare(theta_0, thetas, 0.4, density=density, seed=5)
    masks = iter(kept(name, vectors[0].shape, density, seed=5) for name in thetas)
    monkeypatch.setattr(torch, "bernoulli", lambda probabilities: next(masks).to(probabilities))
    assert_equal(result, merge_utils.dare_linear(vectors, weights, density))


def kept(model, shape, density, seed, name="w"):
    generator = torch.Generator().manual_seed(int(fingerprint_values(seed, model, name), 16))
    return torch.rand(shape, generator=generator) < density


def test_dare_keeps_its_share_and_the_expectation():
    theta_0 = {"w": torch.zeros(400, 500)}
    thetas = {"a": {"w": torch.ones(400, 500)}}
    result = dare(theta_0, thetas, density=0.1)["w"]
    assert set(result.unique().tolist()) == {0.0, 10.0}
    assert float((result > 0).float().mean()) == pytest.approx(0.1, abs=0.003)
    assert float(result.mean()) == pytest.approx(1, abs=0.03)


def test_dare_is_seeded_by_names_and_nothing_else():
    theta_0, thetas = models()
    first = dare(theta_0, thetas, seed=1)
    backwards = dict(reversed(theta_0.items())), {m: dict(reversed(t.items())) for m, t in thetas.items()}
    assert torch.equal(dare(*backwards, seed=1)["w"], first["w"])
    assert not torch.equal(dare(theta_0, thetas, seed=2)["w"], first["w"])
    alone = dare({"w": theta_0["w"]}, {m: {"w": t["w"]} for m, t in thetas.items()}, seed=1)
    assert torch.equal(alone["w"], first["w"])


def test_frozen_tensors_do_not_count_in_the_trimming():
    theta_0, thetas = models()
    more = {"frozen": torch.randn(10_000)}
    result = ties(theta_0 | more, {m: t | more for m, t in thetas.items()}, density=0.2)
    assert torch.equal(result["w"], ties(theta_0, thetas, density=0.2)["w"])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("method", [lambda *m: add_task_vectors(*m, 0.3), ties, dare], ids=["sum", "ties", "dare"])
def test_what_is_equal_keeps_its_bits(method, dtype):
    theta_0, thetas = models(dtype=dtype)
    result = method(theta_0, thetas)
    assert all(torch.equal(bits(result[name]), bits(theta_0[name])) for name in ("specials", "ids"))
    assert result["w"].dtype == dtype
    assert not torch.equal(result["w"], theta_0["w"])


def test_scale_zero_is_theta_0():
    theta_0, thetas = models()
    theta_0["w"][0] = -0.0
    for result in (ties(theta_0, thetas, 0.0), dare(theta_0, thetas, 0.0), add_task_vectors(theta_0, thetas, 0)):
        assert torch.equal(bits(result["w"]), bits(theta_0["w"]))


def test_wrong_inputs():
    theta_0, thetas = models()
    for method in (ties, dare):
        for density in (0, 1.1, float("nan")):
            with pytest.raises(InputError, match="density must be above 0 and at most 1"):
                method(theta_0, thetas, density=density)
        with pytest.raises(InputError, match="at least one fine-tuned model"):
            method(theta_0, {})
        with pytest.raises(InputError, match="Integer tensor 'ids' differs"):
            method(theta_0, {"a": thetas["a"] | {"ids": torch.arange(3) + 1}})
        with pytest.raises(InputError, match="theta_0 and a cannot be interpolated"):
            method(theta_0, {"a": {"w": thetas["a"]["w"]}})
