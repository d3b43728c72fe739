"""Patch embeddings as matrix products, because cuDNN's convolutions take a fifth of an evaluation on a GPU."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional


class PatchEmbedding(nn.Conv2d):
    """A convolution over patches that do not overlap, computed as a matrix product on a GPU.

    Its parameters keep their names. On other devices, it is an ordinary convolution.
    """

    def forward(self, input: Tensor) -> Tensor:
        """Return the embeddings (batch, width, rows, columns) of the patches of images (batch, channels, ...)."""
        if input.device.type != "cuda":
            return super().forward(input)
        return embed_patches(input, self.weight, self.bias)


def embed_patches(images: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return the convolution of images with a kernel whose stride is its size, as a matrix product.

    Pixels beyond the last whole patch are left out, as in a convolution.

    Args:
        images: shape (batch, channels, height, width).
        weight: shape (embed_dim, channels, patch_height, patch_width).
        bias: shape (embed_dim,).

    Returns:
        shape (batch, embed_dim, rows, columns).
    """
    patches = split_into_patches(images, weight.shape[2:])
    embeds: Tensor = functional.linear(patches.flatten(1, 2), weight.flatten(1), bias)
    grid: Tensor = embeds.transpose(1, 2).unflatten(2, patches.shape[1:3])
    return grid


def split_into_patches(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return the whole patches of images; the pixels of each are in the order of a convolution's weights.

    Args:
        images: shape (batch, channels, height, width).
        size: Height and width of a patch.

    Returns:
        shape (batch, rows, columns, channels * patch_height * patch_width).
    """
    height, width = size
    rows, columns = images.shape[2] // height, images.shape[3] // width
    images = images[:, :, : rows * height, : columns * width]
    grid: Tensor = images.unflatten(3, (columns, width)).unflatten(2, (rows, height)).permute(0, 2, 4, 1, 3, 5)
    return grid.flatten(3)


def use_matrix_products(model: nn.Module) -> None:
    """Turn every convolution of a model over patches that do not overlap into a `PatchEmbedding`, in place.

    Example:
        >>> use_matrix_products(model)
        >>> type(model.vision_model.embeddings.patch_embedding).__name__
        'PatchEmbedding'
    """
    for module in model.modules():
        if type(module) is nn.Conv2d and _is_of_patches(module):
            module.__class__ = PatchEmbedding


def _is_of_patches(convolution: nn.Conv2d) -> bool:
    no_overlap = tuple(convolution.stride) == tuple(convolution.kernel_size)
    whole = not isinstance(convolution.padding, str) and not any(convolution.padding)
    return (
        no_overlap
        and (whole or convolution.padding == "valid")
        and (tuple(convolution.dilation) == (1, 1) and convolution.groups == 1 and min(convolution.kernel_size) > 1)
    )
