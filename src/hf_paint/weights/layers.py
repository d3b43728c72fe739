"""The layer of each tensor of an image tower."""

import re
from collections.abc import Iterable


_EMBEDDINGS = ("vision_model.embeddings.", "vision_model.pre_layrnorm.")
_ENCODER_LAYER = re.compile(r"vision_model\.encoder\.(?:layers|blocks)\.(\d+)\.")


def layer_index(name: str) -> int | None:
    """Return the layer of the image tower that contains a tensor.

    0 stands for the embeddings and the layer norm after them, `1 + i` for encoder layer i, and -1 for the layers after
    the encoder at any depth: a norm, a pooling head, the projection. None stands for other tensors, such as the text
    tower's.

    Example:
        >>> layer_index("vision_model.encoder.layers.3.mlp.fc1.weight"), layer_index("visual_projection.weight")
        (4, -1)
    """
    if name.startswith(_EMBEDDINGS):
        return 0
    if encoder_layer := _ENCODER_LAYER.match(name):
        return 1 + int(encoder_layer[1])
    return -1 if name.startswith(IMAGE_TOWER) else None


def count_layers(names: Iterable[str]) -> int:
    """Return the number of layers by `layer_index`.

    The encoder has two fewer, or one fewer if no layer follows it, as in ALIGN.
    """
    layers = {layer for layer in map(layer_index, names) if layer is not None}
    return 1 + max(layers, default=0) + (-1 in layers)


IMAGE_TOWER = ("vision_model.", "visual_projection.")
"""Prefixes of the tensors that patching changes, in every family; all others are frozen."""
POOLING_ATTENTION = "vision_model.head.attention."
"""SigLIP's pooling: torch's attention reads the weights of its layers directly and bypasses the adapters of peft."""
