import pytest
import torch
from torch.nn import functional

from hf_paint import InputError, ZeroShotHead, estimate_fisher, interpolate, interpolate_fisher
from hf_paint.models.towers import attention, image_tower
from tensors import bits


@pytest.fixture
def tower(model):
    return image_tower(model.double())


@pytest.fixture
def head():
    generator = torch.Generator().manual_seed(0)
    rows = functional.normalize(torch.randn(4, 24, generator=generator, dtype=torch.float64), dim=-1)
    return ZeroShotHead(rows, torch.tensor(5.0, dtype=torch.float64))


def pixels(n=7):
    return torch.randn(n, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def squared_gradients(tower, head, image, label):
    tower.zero_grad()
    embeds = tower(pixel_values=image[None]).image_embeds
    logits = head.logit_scale * (embeds / embeds.norm()) @ head.weight.T
    (-torch.log(logits.exp()[0, label] / logits.exp().sum())).backward()
    return {name: parameter.grad.clone() ** 2 for name, parameter in tower.named_parameters()}


def probabilities(tower, head, images):
    with torch.no_grad():
        return head(tower(pixel_values=images).image_embeds).softmax(-1)


def test_equals_single_backward_passes_in_float64(tower, head):
    images = pixels()
    draws = torch.rand(7, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)[:, 0].tolist()
    rows = probabilities(tower, head, images).tolist()
    labels = []
    for draw, row in zip(draws, rows, strict=True):
        label = 0
        while draw >= sum(row[: label + 1]):
            label += 1
        labels.append(label)
    assert len(set(labels)) > 1
    with attention(tower, "eager"):  # its softmax runs in float32, unlike that of fused attention
        parts = [squared_gradients(tower, head, image, label) for image, label in zip(images, labels, strict=True)]
    fisher = estimate_fisher(tower, head, [images[:4], images[4:]], seed=3, chunk_size=3)
    assert set(fisher) == set(parts[0])
    for name, value in fisher.items():
        torch.testing.assert_close(value, sum(part[name] for part in parts) / 7, rtol=1e-8, atol=1e-14)


def test_batches_and_chunks_change_nothing(tower, head):
    images = pixels()
    whole = estimate_fisher(tower, head, [images], chunk_size=7)
    for batches, chunk_size in ((images.split(1), 8), (images.split(3), 2)):
        parts = estimate_fisher(tower, head, batches, chunk_size=chunk_size)
        for name in whole:
            torch.testing.assert_close(parts[name], whole[name], rtol=1e-8, atol=1e-14)


def test_labels_come_from_the_model(tower, head):
    """Over many draws of one image, the mean is the expectation over the model's own predictions."""
    image = pixels(1)
    row = probabilities(tower, head, image)[0]
    name = "visual_projection.weight"
    expected = sum(p * squared_gradients(tower, head, image[0], label)[name] for label, p in enumerate(row))
    fisher = estimate_fisher(tower, head, [image.expand(1500, -1, -1, -1)], chunk_size=250)[name]
    assert float((fisher - expected).norm() / expected.norm()) < 0.05


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_a_precision_neither_loses_squares_nor_their_sum(model, head, dtype):
    """In bfloat16 a sum of 600 equal squares would stop at 256; in float16 small squares would underflow to 0."""
    tower = image_tower(model.to(dtype))
    images = pixels(1).to(dtype).expand(600, -1, -1, -1)
    fisher = estimate_fisher(tower, head.to(dtype), [images], chunk_size=200)
    exact = estimate_fisher(tower.double(), head.double(), [images.double()], chunk_size=200)
    assert {value.dtype for value in fisher.values()} == {torch.float32}
    for name in ("visual_projection.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"):
        assert float(fisher[name].sum() / exact[name].sum()) == pytest.approx(1, abs=0.15)


def test_information_that_is_not_finite_is_refused(tower, head):
    with pytest.raises(InputError, match="is not finite"):
        estimate_fisher(tower, head, [torch.full((1, 3, 32, 32), torch.nan, dtype=torch.float64)])


def test_the_tower_is_left_as_it_is(tower, head):
    before = {name: tensor.clone() for name, tensor in tower.state_dict().items()}
    tower.zero_grad()
    estimate_fisher(tower, head, [pixels(2)])
    assert tower.config._attn_implementation == "sdpa"
    assert all(torch.equal(tensor, before[name]) for name, tensor in tower.state_dict().items())
    assert all(parameter.grad is None for parameter in tower.parameters())
    with pytest.raises(InputError, match="at least one image"):
        estimate_fisher(tower, head, [])


def pair(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)

    def draw():
        return torch.randn(64, 33, generator=generator).to(dtype)

    frozen = {"frozen": torch.tensor([-0.0, 0.0, 1e-40, 0.1]).to(dtype), "ids": torch.arange(3)}
    theta_0, theta_1 = {"w": draw(), "plain": draw()} | frozen, {"w": draw(), "plain": draw()} | frozen
    fisher_0, fisher_1 = ({"w": draw().float() ** 2 * 1e-4, "frozen": torch.rand(4)} for _ in range(2))
    fisher_0["w"][0] = 0
    fisher_1["w"][:2] = 0
    return theta_0, theta_1, fisher_0, fisher_1


@pytest.mark.parametrize("alpha", [0.1, 0.5, 0.9])
def test_interpolation_equals_the_formula_in_float64(alpha):
    theta_0, theta_1, fisher_0, fisher_1 = pair()
    f_0, f_1 = ((1 - alpha) * fisher_0["w"].double().clamp(1e-8), alpha * fisher_1["w"].double().clamp(1e-8))
    expected = (f_0 * theta_0["w"].double() + f_1 * theta_1["w"].double()) / (f_0 + f_1)
    result = interpolate_fisher(theta_0, theta_1, fisher_0, fisher_1, alpha)
    torch.testing.assert_close(result["w"].double(), expected, rtol=0, atol=2e-6)
    assert torch.equal(result["plain"], interpolate(theta_0, theta_1, alpha)["plain"])
    plain = (1 - alpha) * theta_0["w"][0] + alpha * theta_1["w"][0]
    torch.testing.assert_close(result["w"][0], plain, rtol=0, atol=2e-6)


def test_information_in_half_a_precision_keeps_the_floor():
    theta_0, theta_1 = {"w": torch.zeros(3)}, {"w": torch.ones(3)}
    fishers = [{"w": torch.tensor([0.0, 1e-3, 2.0], dtype=torch.float16)} for _ in range(2)]
    result = interpolate_fisher(theta_0, theta_1, *fishers, 0.3)
    torch.testing.assert_close(result["w"], torch.full((3,), 0.3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_ends_are_exact_and_what_is_equal_keeps_its_bits(dtype):
    theta_0, theta_1, *fishers = pair(dtype)
    for alpha, end in ((0, theta_0), (1, theta_1)):
        result = interpolate_fisher(theta_0, theta_1, *fishers, alpha)
        assert all(torch.equal(bits(result[name]), bits(end[name])) for name in end)
    result = interpolate_fisher(theta_0, theta_1, *fishers, 0.3)
    assert all(torch.equal(bits(result[name]), bits(theta_0[name])) for name in ("frozen", "ids"))
    assert result["w"].dtype == dtype


def test_information_of_another_shape_is_refused():
    theta_0, theta_1, fisher_0, fisher_1 = pair()
    with pytest.raises(InputError, match=r"information of 'w' must have the shape \(64, 33\)"):
        interpolate_fisher(theta_0, theta_1, fisher_0 | {"w": torch.ones(33)}, fisher_1, 0.5)
    with pytest.raises(InputError, match="alpha must be in"):
        interpolate_fisher(theta_0, theta_1, fisher_0, fisher_1, 1.5)
