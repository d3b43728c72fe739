"""RegMean against least squares on the stacked inputs of all models."""

import pytest
import torch
from torch import nn

from hf_paint import InputError, collect_grams, regmean, uniform_soup
from hf_paint.models.towers import attention, image_tower
from tensors import SPECIALS, distance


NUM_INPUTS, NUM_OUTPUTS, NUM_ROWS = 12, 5, 40


def linear_models(dtype=torch.float64, names="abc", num_rows=NUM_ROWS):
    """Name -> weights of a linear layer, and name -> correlated inputs of it."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    frozen = {"frozen.weight": SPECIALS[:, None].to(dtype), "position_ids": torch.arange(3)}
    thetas = {n: {"w": draw(NUM_OUTPUTS, NUM_INPUTS), "bias": draw(NUM_OUTPUTS)} for n in names}
    thetas = {n: {key: x.to(dtype) for key, x in theta.items()} | frozen for n, theta in thetas.items()}
    return thetas, {n: draw(num_rows, NUM_INPUTS) @ draw(NUM_INPUTS, NUM_INPUTS) + 1 for n in names}


def grams_of(inputs, dtype=torch.float64):
    return {name: {"w": (x.T @ x).to(dtype)} for name, x in inputs.items()}


def stacked_least_squares(thetas, inputs):
    """The joint solution: the layer whose outputs are nearest to those of each model on its own inputs."""
    x = torch.cat([*inputs.values()])
    y = torch.cat([inputs[name] @ theta["w"].double().T for name, theta in thetas.items()])
    return torch.linalg.lstsq(x, y).solution.T


def normal_equations(thetas, inputs, reduction):
    """The formula of Section 3, entry by entry, in float64."""
    left, right = torch.zeros(NUM_INPUTS, NUM_INPUTS).double(), torch.zeros(NUM_INPUTS, NUM_OUTPUTS).double()
    for name, theta in thetas.items():
        gram = inputs[name].T @ inputs[name]
        off_diagonal = gram - torch.diag(torch.diag(gram))
        gram = torch.diag(torch.diag(gram)) + reduction * off_diagonal
        left, right = left + gram, right + gram @ theta["w"].double().T
    return (torch.linalg.inv(left) @ right).T


def test_without_reduction_it_is_the_joint_least_squares_solution():
    thetas, inputs = linear_models()
    merged = regmean(thetas, grams_of(inputs), reduction=1.0)
    torch.testing.assert_close(merged["w"], stacked_least_squares(thetas, inputs), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(merged["bias"], sum(theta["bias"] for theta in thetas.values()) / 3)


@pytest.mark.parametrize("reduction", [0.9, 0.5])
def test_it_is_the_normal_equations_with_reduced_correlations(reduction):
    thetas, inputs = linear_models()
    merged = regmean(thetas, grams_of(inputs), reduction=reduction)
    torch.testing.assert_close(merged["w"], normal_equations(thetas, inputs, reduction), rtol=1e-9, atol=1e-9)
    if reduction == 0.9:
        assert torch.equal(merged["w"], regmean(thetas, grams_of(inputs))["w"])


def test_with_reduction_0_each_column_is_weighted_by_the_size_of_its_input():
    thetas, inputs = linear_models()
    shares = {name: x.square().sum(dim=0) for name, x in inputs.items()}
    expected = sum(shares[name] * theta["w"] for name, theta in thetas.items()) / sum(shares.values())
    torch.testing.assert_close(regmean(thetas, grams_of(inputs), reduction=0)["w"], expected)


@pytest.mark.parametrize(
    "gram_dtypes",
    [[torch.float64] * 3, [torch.float32] * 3, [torch.float32, torch.float32, torch.float64]],
    ids=["float64", "float32", "mixed"],
)
def test_singular_sums_keep_the_mean_where_no_model_has_inputs(gram_dtypes):
    """Fewer rows than inputs in all models together, of which one is always zero and two are always equal."""
    thetas, inputs = linear_models(num_rows=3)
    for x in inputs.values():
        x[:, 0], x[:, 2] = 0, x[:, 1]
    grams, mean = grams_of(inputs), uniform_soup(thetas)["w"]
    grams = {name: {"w": gram["w"].to(dtype)} for (name, gram), dtype in zip(grams.items(), gram_dtypes, strict=True)}
    merged = regmean(thetas, grams, reduction=1.0)["w"]
    x, best = torch.cat([*inputs.values()]), stacked_least_squares(thetas, inputs)
    y = torch.cat([inputs[name] @ theta["w"].T for name, theta in thetas.items()])
    found, least = ((x @ w.T - y).norm() for w in (merged, best))
    assert found <= least + (1e-2 if torch.float32 in gram_dtypes else 1e-9)
    torch.testing.assert_close(merged[:, 0], mean[:, 0])
    torch.testing.assert_close((merged - mean)[:, 1], (merged - mean)[:, 2], rtol=1e-5, atol=1e-5)
    reduced = regmean(thetas, grams)["w"]
    torch.testing.assert_close(reduced[:, 0], mean[:, 0])


def test_a_convolution_of_patches_is_a_matrix():
    thetas, inputs = linear_models()
    folded = {n: theta | {"w": theta["w"].view(NUM_OUTPUTS, 3, 2, 2)} for n, theta in thetas.items()}
    merged = regmean(folded, grams_of(inputs))["w"]
    assert torch.equal(merged.flatten(1), regmean(thetas, grams_of(inputs))["w"])


def test_order_and_scale_of_the_inputs_change_nothing():
    thetas, inputs = linear_models()
    merged = regmean(thetas, grams_of(inputs))
    backwards = {name: thetas[name] for name in reversed(thetas)}
    assert distance(regmean(backwards, grams_of(inputs)), merged) < 1e-12
    grams = {name: {"w": 1e-9 * gram["w"]} for name, gram in grams_of(inputs).items()}
    assert distance(regmean(thetas, grams), merged) < 1e-12


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 1e-6), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_other_dtypes_are_rounded_once(dtype, atol):
    thetas, inputs = linear_models(dtype)
    merged = regmean(thetas, grams_of(inputs, torch.float32))
    assert {name: x.dtype for name, x in merged.items()} == {name: x.dtype for name, x in thetas["a"].items()}
    expected = normal_equations(thetas, inputs, 0.9)
    torch.testing.assert_close(merged["w"].double(), expected, rtol=torch.finfo(dtype).eps, atol=atol)
    same = regmean(dict.fromkeys(thetas, thetas["a"]), grams_of(inputs))
    for name, x in thetas["a"].items():
        assert torch.equal(same[name].view(torch.uint8), x.view(torch.uint8)), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda thetas, grams: thetas.clear(), "needs at least one fine-tuned model"),
        (lambda thetas, grams: grams.pop("b"), "those of 'b' are missing"),
        (lambda thetas, grams: grams["b"].pop("w"), "only one of 'a' and 'b' has that of 'w'"),
        (lambda thetas, grams: [gram.update(x=torch.eye(2)) for gram in grams.values()], "no tensor of this name"),
        (lambda thetas, grams: grams["b"].update(w=torch.eye(2)), r"'w' of b must have the shape \(12, 12\), got"),
        (lambda thetas, grams: grams["b"]["w"].fill_(torch.nan), "'w' of the Gram matrices of b holds NaN or inf"),
        (lambda thetas, grams: thetas["a"]["w"].fill_(torch.inf), "'w' of a holds NaN or inf"),
        (lambda thetas, grams: thetas["b"].pop("w"), "only in theta_0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    thetas, inputs = linear_models()
    grams = grams_of(inputs)
    change(thetas, grams)
    with pytest.raises(InputError, match=message):
        regmean(thetas, grams)


@pytest.mark.parametrize("reduction", [-0.1, 1.5, torch.nan])
def test_reduction_is_a_share(reduction):
    thetas, inputs = linear_models()
    with pytest.raises(InputError, match=r"`reduction` .* must be a number in \[0, 1\]"):
        regmean(thetas, grams_of(inputs), reduction=reduction)


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(7, 3, 32, 32, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("implementation", ["sdpa", "eager"])
def test_grams_are_those_of_captured_inputs(implementation, model, pixels):
    """Inputs from transformers' own outputs of each layer and from a convolution, without hooks on linear layers."""
    tower = image_tower(model.double())
    vision, layer = tower.vision_model, tower.vision_model.encoder.layers[1]
    with attention(tower, implementation), torch.no_grad():
        grams = collect_grams(tower.train(), [pixels[:4], pixels[4:]])
        assert tower.training
        tower.eval()
        states = vision(pixel_values=pixels, output_hidden_states=True).hidden_states
        normed = layer.layer_norm1(states[1])
        after = layer.layer_norm2(states[1] + layer.self_attn(normed, attention_mask=None)[0])
        inputs = {
            "vision_model.embeddings.patch_embedding": nn.functional.unfold(pixels, 8, stride=8).transpose(1, 2),
            "vision_model.encoder.layers.1.self_attn.q_proj": normed,
            "vision_model.encoder.layers.1.mlp.fc1": after,
            "vision_model.encoder.layers.1.mlp.fc2": layer.mlp.activation_fn(layer.mlp.fc1(after)),
            "visual_projection": vision.post_layernorm(states[2][:, 0]),
        }
    for name, x in inputs.items():
        rows = x.flatten(0, -2)
        torch.testing.assert_close(grams[f"{name}.weight"], rows.T @ rows / len(rows), rtol=1e-9, atol=1e-12)
    linear = {f"{name}.weight" for name, module in tower.named_modules() if isinstance(module, nn.Linear)}
    assert grams.keys() == linear | {"vision_model.embeddings.patch_embedding.weight"}
    q, k, v = (grams[f"vision_model.encoder.layers.1.self_attn.{part}_proj.weight"] for part in "qkv")
    assert q is k is v
    assert not any(module._forward_pre_hooks for module in tower.modules())


def test_a_linear_tower_gives_back_what_it_was_trained_to_do(model, pixels):
    """The merged projection is the joint solution for the embeddings of both models on both sets of images."""
    tower = image_tower(model.double())
    thetas, grams, rows, outputs = {}, {}, [], []
    for name, images in {"a": pixels[:3], "b": pixels[3:]}.items():
        with torch.no_grad():
            tower.visual_projection.weight += torch.randn(24, 48, generator=torch.Generator().manual_seed(len(name)))
            rows.append(tower.vision_model(pixel_values=images).pooler_output)
            outputs.append(tower(pixel_values=images).image_embeds)
        thetas[name] = {key: x.clone() for key, x in tower.state_dict().items()}
        grams[name] = {key: len(images) * gram for key, gram in collect_grams(tower, [images]).items()}
    merged = regmean(thetas, grams, reduction=1.0)["visual_projection.weight"]
    torch.testing.assert_close(torch.cat(rows) @ merged.T, torch.cat(outputs), rtol=0, atol=1e-7)


def test_grams_of_no_or_bad_images_are_refused(model, pixels):
    tower = image_tower(model)
    with pytest.raises(InputError, match="at least one image, got none"):
        collect_grams(tower, [])
    with pytest.raises(InputError, match="'vision_model.embeddings.patch_embedding.weight' are not finite"):
        collect_grams(tower, [torch.full((1, 3, 32, 32), torch.nan)])
