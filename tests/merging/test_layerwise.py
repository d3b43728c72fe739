import re

import pytest
import torch

from hf_paint import InputError, interpolate, interpolate_layerwise, layer_index, lines_alphas
from hf_paint.merging.layerwise import Lines
from hf_paint.models.towers import image_tower_weights
from tensors import bits
from tiny_families import FAMILIES, make


def pair(model, seed=0):
    """The tiny CLIP and itself with a moved image tower."""
    generator = torch.Generator().manual_seed(seed)
    theta_0 = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    moved = {name: x + torch.randn(x.shape, generator=generator) for name, x in theta_0.items() if "vis" in name}
    return theta_0, theta_0 | moved


def written_out_layer(name):
    if "encoder.layers.0." in name:
        return 1
    if "encoder.layers.1." in name:
        return 2
    return 0 if "embedding" in name or "pre_layrnorm" in name else 3


def test_layers_of_the_tiny_clip(model):
    layers = {name: layer_index(name) for name in model.state_dict()}
    assert {layers[name] for name in layers if name.startswith(("text", "logit_scale"))} == {None}
    tower = {name: layer for name, layer in layers.items() if name.startswith("vis")}
    assert set(tower.values()) == {0, 1, 2, -1}
    assert {name: layer % 4 for name, layer in tower.items()} == {name: written_out_layer(name) for name in tower}


def test_one_alpha_per_layer_equals_the_formula_in_float64(model):
    theta_0, theta_1 = pair(model)
    alphas = [0.1, 0.4, 0.6, 0.9]
    result = interpolate_layerwise(theta_0, theta_1, alphas)
    for name, x_0 in theta_0.items():
        if not name.startswith("vis"):
            assert torch.equal(bits(result[name]), bits(x_0))
            continue
        alpha = alphas[written_out_layer(name)]
        expected = (1 - alpha) * x_0.double() + alpha * theta_1[name].double()
        torch.testing.assert_close(result[name].double(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("alpha", [0, 0.3, 1])
def test_equal_alphas_are_interpolate_bit_for_bit(model, alpha):
    theta_0, theta_1 = pair(model)
    expected = interpolate(theta_0, theta_1, alpha)
    for alphas in ([alpha] * 4, {"layers": alpha, "vis": alpha}):
        result = interpolate_layerwise(theta_0, theta_1, alphas, default=alpha)
        assert all(torch.equal(bits(result[name]), bits(expected[name])) for name in expected)


def test_the_first_regular_expression_that_matches_counts(model):
    theta_0, theta_1 = pair(model)
    alphas = {r"layers\.1\.mlp": 1.0, r"layers\.\d": 0.0}
    result = interpolate_layerwise(theta_0, theta_1, alphas, default=0.5)
    half = interpolate(theta_0, theta_1, 0.5)
    for name in theta_0:
        if name.startswith("text"):
            expected = theta_0
        elif "layers.1.mlp" in name:
            expected = theta_1
        else:
            expected = theta_0 if "layers." in name else half
        assert torch.equal(result[name], expected[name]), name


def test_lines_is_the_papers():
    assert lines_alphas(14, 0.3, 0.7) == pytest.approx([0.3 + 0.7 * (layer - 1) / 13 for layer in range(1, 15)])
    with pytest.raises(InputError, match="at least two encoder layers, got 1"):
        lines_alphas(1, 0, 1)


@pytest.mark.parametrize("family", ["clip", *FAMILIES])
@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 0.9), (0.75, 0.25), (0.0, 1.0), (1.0, 0.0)])
def test_lines_counts_blocks_and_moves_the_rest_by_alpha(family, alpha, beta, model):
    """The authors: `alpha + beta * l / (L - 1)` for block l = 0 ... L - 1, and alpha for all other tensors."""
    tower = image_tower_weights(model if family == "clip" else make(family)[0])
    theta_0 = {name: x.clone() for name, x in tower.items()}
    theta_1 = {name: x + 1 if x.is_floating_point() else x for name, x in theta_0.items()}
    theta = Lines(beta=beta).merge(theta_0, {"made": theta_1}, None)
    numbers = {name: re.search(r"\.(\d+)\.", name) for name in theta_0}
    depths = {name: int(number[1]) for name, number in numbers.items() if number}
    num_blocks = len(set(depths.values()))
    assert num_blocks == 2
    assert {"embeddings", "post_layernorm", "visual_projection", "head", "pre_layrnorm"} & {
        part for name in theta_0.keys() - depths for part in name.split(".")
    }
    for name, x_0 in theta_0.items():
        if x_0.is_floating_point():
            factor = alpha + beta * depths[name] / (num_blocks - 1) if name in depths else alpha
            torch.testing.assert_close(theta[name], x_0 + factor, rtol=0, atol=1e-6)


def test_lines_of_deeper_encoders():
    names = [f"vision_model.encoder.{blocks}.{i}.w" for blocks in ("layers", "blocks") for i in range(12)]
    for half in (names[:12], names[12:]):
        theta_0 = dict.fromkeys([*half, "vision_model.embeddings.w", "vision_model.post_layernorm.w"], torch.zeros(1))
        theta = Lines(beta=0.9).merge(theta_0, {"made": {name: x + 1 for name, x in theta_0.items()}}, None)
        expected = [0.1 + 0.9 * block / 11 for block in range(12)] + [0.1, 0.1]
        assert [float(x) for x in theta.values()] == pytest.approx(expected)
    with pytest.raises(InputError, match="at least two encoder layers, got 0"):
        Lines().check({"vision_model.embeddings.w": torch.zeros(1)})


def test_what_moved_outside_of_the_tower_needs_a_default(model):
    theta_0, theta_1 = pair(model)
    theta_1["logit_scale"] = theta_0["logit_scale"] + 1
    with pytest.raises(InputError, match="'logit_scale' differs but is not in any layer"):
        interpolate_layerwise(theta_0, theta_1, [0.5] * 4)
    result = interpolate_layerwise(theta_0, theta_1, [0.5] * 4, default=0.25)
    assert float(result["logit_scale"]) == pytest.approx(float(theta_0["logit_scale"]) + 0.25)


@pytest.mark.parametrize(
    ("alphas", "default", "message"),
    [
        ([0.5] * 3, None, r"has 4 layers \(embeddings, encoder layers, .*\), got 3 alphas"),
        ([0.5, 0.5, 0.5, 1.5], None, r"alpha must be in \[0, 1\], got 1.5"),
        ({"layers": 0.5}, None, "`default` is required"),
        ({"blocks": 0.5}, 0.5, "'blocks' matches no tensor"),
        ({"(": 0.5}, 0.5, r"'\(' is not a regular expression"),
    ],
)
def test_wrong_alphas(model, alphas, default, message):
    with pytest.raises(InputError, match=message):
        interpolate_layerwise(*pair(model), alphas, default=default)
