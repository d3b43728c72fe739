import math

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from hf_paint import InputError
from hf_paint.merging.movement import measure_path
from hf_paint.merging.path import Line
from hf_paint.weights import streaming
from hf_paint.weights.changes import WeightChanges, measure_weight_changes
from hf_paint.weights.layers import layer_of


LAYERS = {
    "embeddings": {
        "vision_model.embeddings.class_embedding": (5,),
        "vision_model.embeddings.patch_embedding.weight": (5, 3, 2, 2),
        "vision_model.pre_layrnorm.bias": (5,),
    },
    "layer 0": {"vision_model.encoder.layers.0.mlp.fc1.weight": (7, 5)},
    "layer 2": {"vision_model.encoder.layers.2.self_attn.q_proj.weight": (5, 5)},
    "layer 10": {"vision_model.encoder.layers.10.layer_norm1.weight": (5,)},
    "projection": {"vision_model.post_layernorm.weight": (5,), "visual_projection.weight": (4, 5)},
}
BESIDE = {"text_model.final_layer_norm.weight": (6,), "text_projection.weight": (4, 6), "logit_scale": ()}


def weights(seed, dtype=torch.float32, *, near=None, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: shape for layer in (*LAYERS.values(), BESIDE) for name, shape in layer.items()}
    drawn = {name: scale * torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {name: (x if near is None else near[name].float() + x).to(dtype) for name, x in drawn.items()}


def save(folder, theta):
    folder.mkdir()
    save_file(theta, folder / "model.safetensors")
    return folder


def flat(theta, layer):
    names = [name for key, names in LAYERS.items() if layer in ("all", key) for name in names]
    return torch.cat([theta[name].double().reshape(-1) for name in names])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_and_cosines_are_those_of_torch(tmp_path, monkeypatch, dtype):
    monkeypatch.setattr(streaming, "CHUNK", 16)
    theta_0 = weights(0) | {"vision_model.embeddings.position_ids": torch.arange(5)}
    thetas = {"a": weights(1, dtype, near=theta_0, scale=0.01), "b": weights(2, near=theta_0, scale=0.3)}
    changes = measure_weight_changes(
        save(tmp_path / "0", theta_0), {name: save(tmp_path / name, theta) for name, theta in thetas.items()}
    )
    assert list(changes.products) == ["all", "embeddings", "layer 0", "layer 2", "layer 10", "projection"]
    for layer in changes.products:
        x_0, x = flat(theta_0, layer), {name: flat(theta, layer) for name, theta in thetas.items()}
        for name in thetas:
            norm = torch.linalg.vector_norm(x[name] - x_0)
            assert changes.norm(name, layer) == pytest.approx(norm.item(), rel=1e-12)
            assert changes.relative_norm(name, layer) == pytest.approx((norm / x_0.norm()).item(), rel=1e-12)
            cosine = torch.cosine_similarity(x_0, x[name], dim=0).item()
            assert changes.cosine_to_base(name, layer) == pytest.approx(cosine, abs=1e-12)
        cosine = torch.cosine_similarity(x["a"] - x_0, x["b"] - x_0, dim=0).item()
        assert changes.cosine("a", "b", layer) == changes.cosine("b", "a", layer) == pytest.approx(cosine, abs=1e-12)


def test_numbers_written_out(tmp_path):
    """theta_0 = (3, 4), theta_1 = (3, 0): the change is (0, -4); of the other model (3, 0) it is orthogonal."""
    name = "visual_projection.weight"
    vectors = {"0": [3.0, 4.0], "a": [3.0, 0.0], "b": [6.0, 4.0], "same": [3.0, 4.0]}
    folders = {key: save(tmp_path / key, {name: torch.tensor(values)}) for key, values in vectors.items()}
    changes = measure_weight_changes(folders.pop("0"), folders)
    assert (changes.norm("a"), changes.relative_norm("a"), changes.cosine_to_base("a")) == pytest.approx((4, 0.8, 0.6))
    assert changes.cosine("a", "b") == 0
    assert (changes.norm("same"), changes.cosine_to_base("same")) == (0, 1)
    assert math.isnan(changes.cosine("a", "same"))


def test_a_vision_model_by_itself_keeps_the_projection_of_its_base(tmp_path):
    theta_0, theta_1 = weights(0), weights(1)
    whole = measure_weight_changes(save(tmp_path / "0", theta_0), {"a": save(tmp_path / "whole", theta_1)})
    del theta_1["visual_projection.weight"]
    alone = measure_weight_changes(tmp_path / "0", {"a": save(tmp_path / "alone", theta_1)})
    assert alone.norm("a", "layer 0") == whole.norm("a", "layer 0")
    moved = theta_1["vision_model.post_layernorm.weight"] - theta_0["vision_model.post_layernorm.weight"]
    assert alone.norm("a", "projection") == pytest.approx(moved.double().norm().item(), rel=1e-6)


def test_layers_of_a_model_of_transformers(model):
    tower = {name for name in model.state_dict() if name.startswith("vis")}
    layers = {layer: {name for name in tower if layer_of(name) == layer} for layer in map(layer_of, tower)}
    vision = model.vision_model
    prefixes = {
        "embeddings": {"embeddings": vision.embeddings, "pre_layrnorm": vision.pre_layrnorm},
        "layer 0": {"encoder.layers.0": vision.encoder.layers[0]},
        "layer 1": {"encoder.layers.1": vision.encoder.layers[1]},
        "projection": {"post_layernorm": vision.post_layernorm},
    }
    expected = {
        layer: {f"vision_model.{prefix}.{name}" for prefix, part in parts.items() for name in part.state_dict()}
        for layer, parts in prefixes.items()
    }
    expected["projection"].add("visual_projection.weight")
    assert layers == expected


def test_what_does_not_fit(tmp_path):
    theta_0 = save(tmp_path / "0", weights(0))
    other = weights(1)
    other["visual_projection.weight"] = torch.zeros(4, 6)
    with pytest.raises(InputError, match=r"differ in shape: visual_projection.weight \(\(4, 5\) and \(4, 6\)\)"):
        measure_weight_changes(theta_0, {"a": save(tmp_path / "a", other)})
    with pytest.raises(InputError, match="contains no image tower"):
        measure_weight_changes(theta_0, {"b": save(tmp_path / "b", {"w": torch.zeros(2)})})


def test_memory_is_bounded(tmp_path):
    import tracemalloc

    theta = {"visual_projection.weight": torch.ones(4096, 4096)}
    folder = save(tmp_path / "0", theta)
    tracemalloc.start()
    changes = measure_weight_changes(folder, {"a": folder})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert changes.products["all"][0, 0] == np.float64(4096 * 4096)
    assert peak < 16e6 < 4 * 4096 * 4096


def test_a_path_in_memory_has_the_changes_of_its_files_and_those_of_its_head(tmp_path, monkeypatch):
    monkeypatch.setattr("hf_paint.merging.movement.CHUNK", 7)
    theta_0, theta_1 = weights(1), weights(2)
    expected = measure_weight_changes(save(tmp_path / "0", theta_0), {"theta_1": save(tmp_path / "1", theta_1)})
    towers = [{name: x for name, x in theta.items() if name not in BESIDE} for theta in (theta_0, theta_1)]
    found = measure_path(Line(*towers))
    assert list(found.products) == list(expected.products)
    for layer, products in expected.products.items():
        np.testing.assert_allclose(found.products[layer], products, rtol=1e-12)
    head = {"head.weight": torch.ones(3, 4)}, {"head.weight": torch.full((3, 4), 3.0)}
    with_head = measure_path(Line(*(tower | part for tower, part in zip(towers, head, strict=True))))
    assert list(with_head.products) == [*expected.products, "head"]
    assert with_head.norm("theta_1", "head") == pytest.approx(math.sqrt(12 * 2**2))
    read = WeightChanges.from_dict(with_head.to_dict())
    assert read.norm("theta_1") == with_head.norm("theta_1")
