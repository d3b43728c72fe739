"""Assign the tensors of an image tower to layers."""

import re
from collections.abc import Iterable


_EMBEDDINGS = ("vision_model.embeddings.", "vision_model.pre_layrnorm.")
_ENCODER_LAYER = re.compile(r"vision_model\.encoder\.(?:layers|blocks)\.(\d+)\.")


def layer_index(name: str) -> int | None:
    """Return the index of the image tower layer that contains a tensor.

    The index is 0 for the embeddings and the layer norm after them, `1 + i` for encoder layer i, and -1 for everything
    after the encoder (norm, pooling head, projection). It is None for tensors outside the image tower.

    Args:
        name: Name of a tensor in the state dict of a model.

    Example:
        >>> layer_index("vision_model.encoder.layers.3.mlp.fc1.weight"), layer_index("visual_projection.weight")
        (4, -1)
    """
    if name.startswith(_EMBEDDINGS):
        return 0
    if (block := block_index(name)) is not None:
        return 1 + block
    return -1 if name.startswith(IMAGE_TOWER) else None


def layer_of(name: str) -> str:
    """Return the name of a tensor's layer: `embeddings`, `layer 0`, ..., `projection` or, for a trained head, `head`.

    The layer norm before the encoder counts as part of the embeddings, and the one after it as part of the projection.

    Example:
        >>> layer_of("vision_model.encoder.layers.3.mlp.fc1.weight"), layer_of("visual_projection.weight")
        ('layer 3', 'projection')
    """
    layer = layer_index(name)
    if layer is None:
        return "head"
    return f"layer {layer - 1}" if layer > 0 else ("projection" if layer else "embeddings")


def block_index(name: str) -> int | None:
    """Return the index of the encoder layer or block that contains a tensor, or None outside the image encoder.

    Example:
        >>> block_index("vision_model.encoder.layers.3.mlp.fc1.weight"), block_index("visual_projection.weight")
        (3, None)
    """
    block = _ENCODER_LAYER.match(name)
    return int(block[1]) if block else None


def count_blocks(names: Iterable[str]) -> int:
    """Return the number of layers or blocks of the image encoder."""
    return 1 + max((block for block in map(block_index, names) if block is not None), default=-1)


def count_layers(names: Iterable[str]) -> int:
    """Return the number of image tower layers, as counted by `layer_index`.

    This is the number of encoder layers plus two, or plus one if nothing follows the encoder, as in ALIGN.
    """
    layers = {layer for layer in map(layer_index, names) if layer is not None}
    return 1 + max(layers, default=0) + (-1 in layers)


IMAGE_TOWER = ("vision_model.", "visual_projection.")
"""Name prefixes of the tensors that patching changes, for all model families. All other tensors are frozen."""
POOLING_ATTENTION = "vision_model.head.attention."
"""Prefix of SigLIP's attention pooling, where torch reads the weights directly and would bypass peft's adapters."""
