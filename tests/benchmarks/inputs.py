"""Inputs for the benchmarks: models with random weights in the shapes of CLIP, and images."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import torch
from common import Row
from datasets import ClassLabel, Dataset as Table, Features, Image
from PIL import Image as PILImage
from torch import Tensor
from torch.utils.data import Dataset
from towers import flops_per_image, towers_of
from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer, CLIPVisionConfig
from transformers.utils import logging

from hf_paint import Task
from hf_paint.data.splits import Split
from hf_paint.weights.layers import IMAGE_TOWER


logging.disable_progress_bar()
SHARED = Path("../shared")
NUM_DRAWN = 250
"""Different JPEGs that are drawn; more images repeat them."""
SMALL_TOWER = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
"""For the tower that a benchmark is not about."""


def make_processor(texts: list[str], *, vocab_size: int = 49408) -> CLIPProcessor:
    """A processor for 224 x 224 images, with a vocabulary built from the texts."""
    tokenizer = CLIPTokenizer().train_new_from_iterator(texts, vocab_size=vocab_size, show_progress=False)
    tokenizer.model_max_length = 77
    return CLIPProcessor(CLIPImageProcessorPil(), tokenizer)


def make_clip(shape: str, processor: CLIPProcessor | None = None, *, only: str = "", quick: bool = False) -> CLIPModel:
    """A CLIP with random weights.

    Args:
        shape: A name in SHAPES, or `tiny`.
        processor: Its tokenizer defines the end-of-text token.
        only: `vision` or `text`: the other tower is made small; `neither`: both are.
        quick: Two layers instead of all.
    """
    towers = {}
    for tower in ("vision", "text"):
        config = SMALL_TOWER if only not in ("", tower) else towers_of(shape)[tower]
        projection = {"projection_dim": towers_of(shape)["projection_dim"]}
        towers[tower] = config | projection | ({"num_hidden_layers": 2} if quick else {})
    if processor:
        names = ("bos_token_id", "eos_token_id", "pad_token_id")
        towers["text"] |= {name: getattr(processor.tokenizer, name) for name in names}
    towers["vision"] = {"patch_size": 32} | towers["vision"]
    return CLIPModel(CLIPConfig(text_config=towers["text"], vision_config=towers["vision"], **projection)).eval()


def fine_tuned(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Change the image tower slightly, as fine-tuning does; all other tensors stay the same."""
    moved = {name: tensor for name, tensor in weights.items() if name.startswith(IMAGE_TOWER)}
    noise = {name: 0.01 * tensor.std(correction=0) * torch.randn_like(tensor) for name, tensor in moved.items()}
    return weights | {name: tensor + noise[name] for name, tensor in moved.items()}


def make_image_task(folder: Path, num_images: int) -> tuple[Task, str]:
    """Write full-size JPEGs as a task's test split, and return a description of them.

    They come from ImageNet if the reference data is beside the checkout, and are drawn otherwise.
    """
    sample = SHARED / "data/imagenet_sample/test.parquet"
    if sample.exists():
        rows = Table.from_parquet(str(sample)).cast_column("image", Image(decode=False))
        rows, kind = rows.select(range(min(num_images, len(rows)))), "ImageNet JPEGs"
    else:
        labels = [index % 1000 for index in range(num_images)]
        features = Features({"image": Image(), "label": ClassLabel(names=[f"class {i}" for i in range(1000)])})
        images = [{"bytes": draw_jpeg(index % NUM_DRAWN), "path": None} for index in range(num_images)]
        rows, kind = Table.from_dict({"image": images, "label": labels}, features=features), "drawn JPEGs of 500x375"
    path = folder / "images.parquet"
    rows.to_parquet(path)
    definition = {"name": "images", "dataset": "parquet", "data_files": {"test": str(path)}}
    splits = {"train": None, "validation": None, "test": "test"}
    return Task.from_dict(definition | {"splits": splits, "templates": ["a photo of a {}."]}), f"{len(rows)} {kind}"


class ProcessedImages(Dataset):
    """Pixels the plain way: every image is decoded and processed at each access.

    Args:
        split: The rows.
        image_processor: Makes the pixels.
        options: Passed on to it.
    """

    def __init__(self, split: Split, image_processor: CLIPImageProcessorPil, **options: bool) -> None:
        self.rows = split.rows
        self.labels = split.labels()
        self.image_processor = image_processor
        self.options = options

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.rows[index]["image"]
        pixels = self.image_processor(image, return_tensors="pt", **self.options)["pixel_values"][0]
        return pixels, int(self.labels[index])


class DrawnImages(Dataset):
    """Decoded images in memory: a coarse pattern per class, under noise.

    Args:
        num_images: The number of images.
        num_classes: The number of classes, which alternate.
    """

    def __init__(self, num_images: int, num_classes: int) -> None:
        generator = torch.Generator().manual_seed(0)
        patterns = (
            torch.rand(num_classes, 3, 7, 7, generator=generator).repeat_interleave(32, 2).repeat_interleave(32, 3)
        )
        self.labels = torch.arange(num_images) % num_classes
        self.pixels = torch.empty(num_images, 3, 224, 224, dtype=torch.uint8)
        for pixels, label in zip(self.pixels, self.labels, strict=True):
            pixels.copy_(255 * (patterns[label] + torch.rand(3, 224, 224, generator=generator)) / 2)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        return {"pixel_values": self.pixels[index], "labels": int(self.labels[index])}


def share_of_peak(job: str, images_per_second: float, config: CLIPVisionConfig, *, passes: int = 1) -> Row:
    """Print a rate as a share of the GPU's speed on large bfloat16 matrix products.

    Args:
        job: What was measured.
        images_per_second: The rate.
        config: The image tower.
        passes: Work per image, in forward passes: 1, or 3 with the backward pass.
    """
    peak, found = matrix_peak(), passes * flops_per_image(config) * images_per_second
    plain = f"{peak / 1e12:.0f} TFLOP/s in matrix products"
    return Row(
        job=f"{job}, share of peak", plain=plain, ours=f"{found / 1e12:.0f} TFLOP/s", ratio=f"{found / peak:.2f}"
    )


def matrix_peak(*, size: int = 8192, repeats: int = 20) -> float:
    """Return the GPU's floating-point operations per second on large bfloat16 matrix products."""
    left, right = (torch.randn(size, size, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    for repeat in range(-3, repeats):  # the first three warm up
        if repeat == 0:
            start.record()
        left @ right
    end.record()
    torch.cuda.synchronize()
    return 2 * size**3 * repeats / (start.elapsed_time(end) / 1000)


@cache
def draw_jpeg(seed: int) -> bytes:
    """A JPEG with detail at all scales, so that it is about as large as a photograph."""
    generator = np.random.default_rng(seed)
    coarse = PILImage.fromarray(generator.integers(0, 255, (12, 16, 3), dtype=np.uint8)).resize((500, 375))
    noise = generator.normal(0, 8, (375, 500, 3))
    file = io.BytesIO()
    PILImage.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8)).save(file, "JPEG", quality=90)
    return file.getvalue()
