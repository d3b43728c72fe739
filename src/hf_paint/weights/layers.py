"""The layers of an image tower: which tensor belongs to which. No torch."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    pass


_EMBEDDINGS = ("vision_model.embeddings.", "vision_model.pre_layrnorm.")
_ENCODER_LAYER = re.compile(r"vision_model\.encoder\.(?:layers|blocks)\.(\d+)\.")


def layer_index(name: str) -> int | None:
    """Return which layer of the image tower a tensor belongs to.

    0 is the embeddings and the layer norm after them, `1 + i` is encoder layer i, and -1, the last whatever the
    depth, is what comes after the encoder: a norm, a pooling head, the projection. None is everything else, such as
    the text tower.

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
    """Return how many layers `layer_index` tells apart.

    Two more than the encoder has, and one more where nothing comes after the encoder, as in ALIGN.
    """
    layers = {layer for layer in map(layer_index, names) if layer is not None}
    return 1 + max(layers, default=0) + (-1 in layers)


IMAGE_TOWER = ("vision_model.", "visual_projection.")
"""Prefixes of the tensors that patching changes, in every family; everything else stays as it is."""
POOLING_ATTENTION = "vision_model.head.attention."
"""SigLIP's pooling: attention of torch, which reads the weights of its layers past the adapters of peft."""
