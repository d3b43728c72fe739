"""Forward passes of image towers on a batch, and how many images they take at once."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from hf_paint.models.towers import num_tokens


BATCH_SIZE = 128
TOKENS_AT_ONCE = 25_600
"""Tokens of a batch from which a GPU is busy: 128 images of a ViT-B/16 or ViT-L/14 have more, of a ViT-B/32 fewer."""
CPU_ACTIVATION_BYTES = 24 * 2**20
"""Maximum size of the largest activation on a CPU; larger batches are split into groups.

glibc maps blocks above 32 MiB anew at every allocation, and for a ViT-B/32 the resulting page faults take a quarter of
the run time.
"""
CONVOLUTION_EXPANSION = 24
"""Size of the largest activation in a convolutional tower, relative to the input pixels (ALIGN's EfficientNet-B7)."""


def default_batch_size(tower: nn.Module, device: torch.device) -> int:
    """Return how many images to evaluate at once: 128, and on a GPU more, in steps of 128, if they have few tokens.

    Example:
        >>> default_batch_size(image_tower(model), torch.device("cpu"))
        128
    """
    tokens = num_tokens(tower)
    if device.type != "cuda" or tokens is None:
        return BATCH_SIZE
    return BATCH_SIZE * max(1, min(1024, TOKENS_AT_ONCE // tokens) // BATCH_SIZE)


def embed(tower: nn.Module, pixels: Tensor) -> Tensor:
    """Return float32 image embeddings (batch, embed_dim) for normalised pixels. On a CPU, the batch may be split."""
    pixels = pixels.to(next(tower.parameters()).dtype)
    groups = pixels.chunk(_num_groups(tower, pixels)) if pixels.device.type == "cpu" else (pixels,)
    return torch.cat([tower(pixel_values=group).image_embeds.float() for group in groups])


def _num_groups(tower: nn.Module, pixels: Tensor) -> int:
    """Return how many groups to split a batch into on a CPU, to limit the size of the largest (MLP) activation."""
    tokens, config = num_tokens(tower), cast(Any, tower.config)
    activation = CONVOLUTION_EXPANSION * pixels[0].numel() if tokens is None else tokens * config.intermediate_size
    return math.ceil(len(pixels) * int(activation) * pixels.element_size() / CPU_ACTIVATION_BYTES)
