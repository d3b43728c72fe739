import pytest

from hf_paint import layer_index
from hf_paint.weights.layers import count_layers


LAYERS = {
    "vision_model.embeddings.patch_embedding.weight": 0,
    "vision_model.pre_layrnorm.bias": 0,
    "vision_model.encoder.layers.0.mlp.fc1.weight": 1,
    "vision_model.encoder.layers.11.self_attn.q_proj.bias": 12,
    "vision_model.encoder.blocks.3.projection.weight": 4,
    "vision_model.post_layernorm.weight": -1,
    "vision_model.head.attention.in_proj_weight": -1,
    "visual_projection.weight": -1,
    "text_model.encoder.layers.0.mlp.fc1.weight": None,
    "logit_scale": None,
}


@pytest.mark.parametrize("name", LAYERS)
def test_layer_of_a_tensor(name):
    assert layer_index(name) == LAYERS[name]


def test_number_of_layers():
    encoder = [f"vision_model.encoder.layers.{i}.mlp.fc1.weight" for i in range(12)]
    embeddings = ["vision_model.embeddings.class_embedding", "text_model.embeddings.token_embedding.weight"]
    assert count_layers([*embeddings, *encoder, "visual_projection.weight"]) == 14
    assert count_layers([*embeddings, *encoder]) == 13
