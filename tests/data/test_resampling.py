"""Crops resized in batches against Pillow and against torch's own antialiasing, picture by picture."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from PIL.Image import Resampling
from torch.nn import functional

from drawn_tasks import draw_rows
from hf_paint.data.resampling import CHUNK, FILTERS, pad, resize, resize_by_products


SAMPLE = Path(os.environ.get("HF_PAINT_SHARED", "../shared")) / "data/imagenet_sample/test.parquet"
SIZES = [(28, 28), (25, 27), (32, 30), (341, 256), (256, 300), (1, 1), (1, 90), (90, 1), (224, 224), (31, 224)]
WAYS = [resize, resize_by_products]


def smooth(width, height, seed):
    """A picture without levels near black or white, which clipping would change."""
    few = np.random.default_rng(seed).integers(90, 160, size=(3, 4, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(few).resize((width, height), Resampling.BICUBIC))


def by_pillow(picture, edge, resample=Resampling.BICUBIC):
    return np.asarray(Image.fromarray(picture).resize((edge, edge), resample)).transpose(2, 0, 1).astype(int)


@pytest.fixture(scope="module")
def photographs():
    """Real pictures if the reference data are there, and drawn ones full of noise."""
    drawn = [draw_rows(1, seed, size=(40 + 9 * seed, 60 + seed))["image"][0] for seed in range(4)]
    rows = Dataset.from_parquet(str(SAMPLE)).select(range(12))["image"] if SAMPLE.exists() else []
    return [np.asarray(image.convert("RGB")) for image in [*drawn, *rows]]


@pytest.mark.parametrize("resample", FILTERS)
@pytest.mark.parametrize("way", WAYS)
def test_levels_are_those_of_pillow(way, resample, photographs):
    found = way(*pad(photographs), 96, resample).numpy().astype(int)
    differences = [np.abs(x - by_pillow(picture, 96, resample)) for x, picture in zip(found, photographs, strict=True)]
    assert np.median(differences) == 0
    assert np.mean(np.array(differences) > 1) < 1e-3


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", WAYS)
def test_every_size_is_resized_as_torch_resizes_it_alone(way, size):
    """In float32, torch does not round: half a level in each direction, the first times the weights of the second."""
    pictures = [smooth(*size, seed) for seed in range(2)]
    together = way(*pad([smooth(50, 70, 5), *pictures, smooth(300, 20, 6)]), 100, Resampling.BICUBIC)
    for found, picture in zip(together[1:3], pictures, strict=True):
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float()
        expected = functional.interpolate(x, (100, 100), mode="bicubic", antialias=True, align_corners=False)[0]
        assert (found.float() - expected).abs().max() <= 0.5 + 0.5 * 1.25 + 0.05


@pytest.mark.parametrize("way", WAYS)
def test_a_picture_does_not_depend_on_what_else_is_in_its_batch(way):
    pictures = [smooth(20 + seed % 7, 30, seed) for seed in range(CHUNK + 3)]  # more than one chunk
    together = way(*pad(pictures), 32, Resampling.BICUBIC)
    assert together.shape == (len(pictures), 3, 32, 32)
    for index in (0, 5, CHUNK - 1, CHUNK, CHUNK + 2):
        assert torch.equal(together[index], way(*pad([pictures[index]]), 32, Resampling.BICUBIC)[0])


def test_products_keep_float32_inside_autocast():
    crops = pad([smooth(60, 50, 0)])
    outside = resize_by_products(*crops, 32, Resampling.BICUBIC)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(resize_by_products(*crops, 32, Resampling.BICUBIC), outside)


def test_what_is_outside_of_a_picture_has_no_weight():
    padded, sizes = pad([smooth(20, 10, 0), smooth(9, 30, 1)])
    before = [way(padded, sizes, 32, Resampling.BICUBIC) for way in WAYS]
    padded[0, 10:], padded[0, :, 20:], padded[1, :, 9:] = 255, 255, 255
    for way, expected in zip(WAYS, before, strict=True):
        assert torch.equal(way(padded, sizes, 32, Resampling.BICUBIC), expected)
