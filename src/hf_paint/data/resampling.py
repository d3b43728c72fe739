"""Resize pictures of different sizes to one size on the device that trains, as Pillow does with its antialiasing."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.Image import Resampling
from torch import Tensor
from torch.nn import functional


CHUNK = 64
"""Number of pictures that are resized at a time, which limits the memory for intermediate results."""
ALIGNMENT = 8
"""Padded sides are multiples of this number, for fast matrix products."""


def _triangle(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp_min(0)


def _cubic(x: Tensor, a: float = -0.5) -> Tensor:
    """Return Keys' cubic convolution kernel with `a` as in Pillow."""
    x = x.abs()
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


FILTERS: Mapping[Resampling, tuple[str, Callable[[Tensor], Tensor]]] = {
    Resampling.BILINEAR: ("bilinear", _triangle),
    Resampling.BICUBIC: ("bicubic", _cubic),
}
"""Filter -> its name in torch, and its kernel."""


def pad(pictures: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, Tensor]:
    """Put pictures of different sizes into one tensor; what is outside of a picture is undefined.

    Args:
        pictures: Pixels of each picture, shape (height, width, 3).

    Returns:
        Padded pictures (batch, max_height, max_width, 3), uint8, and the height and width of each (batch, 2).
    """
    sizes = torch.tensor([picture.shape[:2] for picture in pictures])
    height, width = (-(-side // ALIGNMENT) * ALIGNMENT for side in sizes.amax(0).tolist())
    padded = torch.empty((len(pictures), height, width, 3), dtype=torch.uint8)
    for target, picture in zip(padded.numpy(), pictures, strict=True):
        target[: picture.shape[0], : picture.shape[1]] = picture
    return padded, sizes


def resize(pictures: Tensor, sizes: Tensor, edge: int, resample: Resampling) -> Tensor:
    """Resize padded pictures to squares, all in one call and without waiting for the device.

    On a CPU, torch's own kernel for uint8 does it for all pictures of equal size at once. On other devices, resizing
    is two batched matrix products, `W_y @ picture @ W_x^T`, whose matrices hold the weights that Pillow's
    `ImagingResample` computes. Levels are rounded and clipped after each product, as in Pillow.

    Args:
        pictures: shape (batch, max_height, max_width, 3), uint8.
        sizes: Height and width of each picture, shape (batch, 2).
        edge: Width and height to resize to.
        resample: Filter, one of `FILTERS`.

    Returns:
        Pixels (batch, 3, edge, edge), uint8. Nearly all are Pillow's; the others differ by one level of 255, or two.
    """
    if pictures.device.type == "cpu":
        return _resize_alike(pictures, sizes, edge, FILTERS[resample][0])
    return resize_by_products(pictures, sizes, edge, resample)


def _resize_alike(pictures: Tensor, sizes: Tensor, edge: int, mode: str) -> Tensor:
    """Resize pictures of equal size together. The kernel works on interleaved channels, which the result keeps."""
    groups = defaultdict(list)
    for index, size in enumerate(sizes.tolist()):
        groups[tuple(size)].append(index)
    resized = torch.empty((len(pictures), edge, edge, 3), dtype=torch.uint8)
    source, target = pictures.numpy(), resized.numpy()  # numpy copies whole rows, torch would copy byte by byte
    for (height, width), indices in groups.items():
        alike = torch.from_numpy(source[indices, :height, :width]).permute(0, 3, 1, 2)
        square = functional.interpolate(alike, (edge, edge), mode=mode, antialias=True)
        target[indices] = square.permute(0, 2, 3, 1).numpy()
    return resized.permute(0, 3, 1, 2)


def resize_by_products(pictures: Tensor, sizes: Tensor, edge: int, resample: Resampling) -> Tensor:
    """Resize padded pictures as `resize` does on devices other than CPUs."""
    kernel = FILTERS[resample][1]
    with torch.autocast(pictures.device.type, enabled=False):
        chunks = zip(pictures.split(CHUNK), sizes.split(CHUNK), strict=True)
        return torch.cat([_two_products(*chunk, edge, kernel) for chunk in chunks])


def _two_products(pictures: Tensor, sizes: Tensor, edge: int, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    batch, height, width, _ = pictures.shape
    rows = _weights(sizes[:, 0], height, edge, kernel)
    columns = _weights(sizes[:, 1], width, edge, kernel)
    lines = pictures.transpose(2, 3).to(torch.float32).reshape(batch, height * 3, width)
    lines = _to_levels(lines @ columns.transpose(1, 2)).view(batch, height, 3 * edge)
    pixels = _to_levels(rows @ lines).view(batch, edge, 3, edge)
    return pixels.transpose(1, 2).to(torch.uint8).contiguous()


def _weights(lengths: Tensor, padded: int, edge: int, kernel: Callable[[Tensor], Tensor]) -> Tensor:
    """Return how much each pixel of a line counts for each pixel of the resized line, (batch, edge, padded).

    As in Pillow's `precompute_coeffs`, the kernel is as wide as a pixel of the longer of the two lines, and the
    weights of the pixels inside the picture sum to 1.
    """
    scale = (lengths.to(torch.float32) / edge)[:, None, None]
    places = torch.arange(padded, device=lengths.device) + 0.5
    centres = (torch.arange(edge, device=lengths.device) + 0.5)[:, None] * scale
    weights = kernel((places - centres) / scale.clamp_min(1)) * (places < lengths[:, None, None])
    return weights / weights.sum(-1, keepdim=True)


def _to_levels(values: Tensor) -> Tensor:
    return values.add_(0.5).floor_().clamp_(0, 255)
