"""Patch embeddings as matrix products, compared with torch's convolution."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from hf_paint.models.patch_embedding import PatchEmbedding, embed_patches, use_matrix_products
from hf_paint.models.towers import image_tower
from tiny_families import make


@pytest.mark.parametrize(("size", "kernel", "bias"), [((32, 32), (8, 8), True), ((21, 30), (4, 7), False)])
def test_they_are_the_convolution_and_so_are_their_gradients(size, kernel, bias):
    torch.manual_seed(0)
    convolution = nn.Conv2d(3, 5, kernel, kernel, bias=bias).double()
    images = torch.randn(2, 3, *size, dtype=torch.float64, requires_grad=True)
    expected, found = convolution(images), embed_patches(images, convolution.weight, convolution.bias)
    assert torch.allclose(found, expected, rtol=1e-12)
    inputs = [images, *convolution.parameters()]
    weight = torch.randn_like(expected)
    for one, two in zip(
        torch.autograd.grad((expected * weight).sum(), inputs),
        torch.autograd.grad((found * weight).sum(), inputs),
        strict=True,
    ):
        assert torch.allclose(one, two, rtol=1e-10, atol=1e-12)
    assert found.flatten(2).transpose(1, 2).is_contiguous()  # what follows needs no copy


@pytest.mark.parametrize("family", ["siglip", "metaclip_2", "chinese_clip"])
def test_every_family_with_patches_has_one_and_nothing_else_changes(family):
    model = make(family)[0]
    before = {name: x.clone() for name, x in model.state_dict().items()}
    tower = image_tower(model)
    [embedding] = [module for module in tower.modules() if isinstance(module, PatchEmbedding)]
    assert {name: x.data_ptr() for name, x in model.state_dict().items()}.keys() == before.keys()
    pixels = torch.randn(2, 3, 32, 32)
    assert torch.equal(
        embedding(pixels), functional.conv2d(pixels, embedding.weight, embedding.bias, embedding.stride)
    )


def test_other_convolutions_stay():
    others = [
        nn.Conv2d(3, 4, 3, 2),
        nn.Conv2d(3, 4, 4, 4, padding=1),
        nn.Conv2d(4, 4, 4, 4, groups=2),
        nn.Conv2d(3, 4, 4, 4, dilation=2),
        nn.Conv2d(3, 4, 1),
        nn.Conv2d(3, 4, 3, padding="same"),
    ]
    model = nn.Sequential(*others)
    use_matrix_products(model)
    assert {type(module) for module in model} == {nn.Conv2d}
