"""An image tower's cost, computed from its config alone: parameters, operations and bytes.

Activation bytes assume training in bfloat16 under autocast: the residual stream and the layer norms are float32,
inputs of matrix products are bfloat16.
"""

from typing import Any

from transformers import CLIPConfig, CLIPTextConfig, CLIPVisionConfig


SHAPES: dict[str, dict[str, Any]] = {
    "ViT-B/32": {"vision": {}, "text": {}, "projection_dim": 512},
    "ViT-L/14": {
        "vision": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"patch_size": 14},
        "text": {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12},
        "projection_dim": 768,
    },
    "ViT-H/14": {
        "vision": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 16}
        | {"patch_size": 14, "hidden_act": "gelu"},
        "text": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
        | {"hidden_act": "gelu"},
        "projection_dim": 1024,
    },
    "ViT-bigG/14": {
        "vision": {"hidden_size": 1664, "intermediate_size": 8192, "num_hidden_layers": 48, "num_attention_heads": 16}
        | {"patch_size": 14, "hidden_act": "gelu"},
        "text": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        | {"hidden_act": "gelu"},
        "projection_dim": 1280,
    },
    "18B/14": {
        "vision": {"hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 48, "num_attention_heads": 40}
        | {"patch_size": 14, "hidden_act": "gelu"},
        "text": {"hidden_size": 1280, "intermediate_size": 5120, "num_hidden_layers": 32, "num_attention_heads": 20}
        | {"hidden_act": "gelu"},
        "projection_dim": 1536,
    },
}
"""CLIP models from the smallest to one with an image tower of 18 billion parameters (EVA-CLIP-18B is that large)."""
_NARROW = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY: dict[str, Any] = {"vision": _NARROW, "text": _NARROW, "projection_dim": 64}
"""A CLIP that shows in a moment, on any processor, that a script works; it is the shape `tiny`."""


def towers_of(shape: str) -> dict[str, Any]:
    """Return what a shape's towers differ in from the defaults of transformers."""
    return TINY if shape == "tiny" else SHAPES[shape]


def clip_config(shape: str) -> CLIPConfig:
    """Return the config for a model in SHAPES, or the tiny one."""
    towers = towers_of(shape)
    projection = {"projection_dim": towers["projection_dim"]}
    return CLIPConfig(
        text_config=towers["text"] | projection, vision_config=towers["vision"] | projection, **projection
    )


def num_tokens(config: CLIPVisionConfig) -> int:
    """Return the number of tokens: the patches of an image and the class token."""
    return (config.image_size // config.patch_size) ** 2 + 1


def layer_parameters(config: CLIPVisionConfig | CLIPTextConfig) -> int:
    """Return the parameters of one layer: four projections, the MLP, two layer norms."""
    width, mlp = config.hidden_size, config.intermediate_size
    return 4 * (width * width + width) + 2 * width * mlp + mlp + width + 4 * width


def image_parameters(config: CLIPVisionConfig) -> int:
    """Return the parameters of the image tower and its projection, the parameters that patching trains."""
    width = config.hidden_size
    embeddings = width * (1 + 3 * config.patch_size**2 + num_tokens(config))
    layers = config.num_hidden_layers * layer_parameters(config)
    return embeddings + layers + 4 * width + width * config.projection_dim


def text_parameters(config: CLIPTextConfig) -> int:
    """Return the parameters of the text tower and its projection, and the logit scale."""
    width = config.hidden_size
    embeddings = width * (config.vocab_size + config.max_position_embeddings)
    layers = config.num_hidden_layers * layer_parameters(config)
    return embeddings + layers + 2 * width + width * config.projection_dim + 1


def lora_parameters(config: CLIPVisionConfig, rank: int) -> int:
    """Return the adapter parameters for the layers `use_peft` adapts: all linear layers in attention and MLP."""
    attention, mlp = 4 * 2 * config.hidden_size, 2 * (config.hidden_size + config.intermediate_size)
    return config.num_hidden_layers * rank * (attention + mlp)


def flops_per_image(config: CLIPVisionConfig) -> int:
    """Return the floating-point operations in the matrix products of one image's forward pass."""
    width, tokens = config.hidden_size, num_tokens(config)
    projections = tokens * (4 * width * width + 2 * width * config.intermediate_size)
    attention = 2 * tokens * tokens * width
    patches = (tokens - 1) * 3 * config.patch_size**2 * width
    return 2 * (config.num_hidden_layers * (projections + attention) + patches + width * config.projection_dim)


def saved_bytes(config: CLIPVisionConfig, *, eager: bool = False, checkpointing: bool = False) -> int:
    """Return the bytes of activations saved per image for the backward pass.

    Args:
        config: The image tower.
        eager: Whether attention stores its scores, as on a CPU; fused otherwise.
        checkpointing: Whether only each layer's input is saved, plus one layer's activations at a time.
    """
    tokens, width, mlp = num_tokens(config), config.hidden_size, config.intermediate_size
    stream = 4 * tokens * width
    products = 2 * tokens * (5 * width + mlp)  # what goes into q, k, v, out, fc1 and fc2, each with its own copy
    heads = 3 * 2 * tokens * width
    activation = (2 if config.hidden_act == "quick_gelu" else 1) * 2 * tokens * mlp
    scores = (4 + 2) * config.num_attention_heads * tokens * tokens if eager else 0
    layer = 2 * stream + products + heads + activation + scores
    ends = 2 * stream + 2 * 3 * config.image_size**2
    layers = config.num_hidden_layers
    return ends + (layers * stream + layer if checkpointing else layers * layer)


def forward_bytes(config: CLIPVisionConfig, *, item_size: int = 2, compiled: bool = False) -> int:
    """Return the bytes that one image's forward pass moves outside of matrix products, in an evaluation.

    Two layer norms, two additions to the residual stream, fused attention, and the activation of the MLP: three
    operations for `quick_gelu`, one for `gelu`. Compiled, an addition and the layer norm after it are one operation
    that reads two tensors and writes two, and so is the activation, which reads and writes one.
    """
    activation = 7 if config.hidden_act == "quick_gelu" and not compiled else 2
    passes = 4 + 4 + 4 if compiled else 4 + 6 + 4
    layer = num_tokens(config) * (passes * config.hidden_size + activation * config.intermediate_size)
    return item_size * config.num_hidden_layers * layer


def training_bytes(config: CLIPVisionConfig, *, eager: bool = False, compiled: bool = False) -> tuple[int, int]:
    """Return the bytes that one image moves outside of matrix products in a step: forward and backward.

    Forward: layer norms (16 per token and width), casts of the inputs of products (24), additions to the stream (20),
    attention (16). Backward: layer norms (24), casts and sums of gradients (84), biases (10), attention (16).
    Compiled, each addition to the stream is one operation with the layer norm and the cast after it (12 forward, 16
    backward), and so are the MLP's activation and its gradient (4 and 8).
    """
    tokens, layers = num_tokens(config), config.num_hidden_layers
    scores = config.num_attention_heads * tokens * tokens if eager else 0
    quick = config.hidden_act == "quick_gelu"
    width, mlp = tokens * config.hidden_size, tokens * config.intermediate_size
    if compiled:
        return layers * (40 * width + 4 * mlp), layers * (58 * width + 8 * mlp)
    forward = 76 * width + (14 if quick else 4) * mlp + 24 * scores
    backward = 134 * width + (30 if quick else 8) * mlp + 28 * scores
    return layers * forward, layers * backward


STEP_BYTES = 52
"""Bytes that a step moves per trained parameter: cast of weight and gradient (12), clipping (12), AdamW (28)."""
COMBINE_BYTES = 46
"""Bytes that interpolation moves per parameter: difference (12), product (8), sum (12), specials (8), copy (6)."""
