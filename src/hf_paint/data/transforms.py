"""From an image to pixels: the resize and crop of a model's processor, and PAINT's augmentation."""

import math
from typing import Any, Literal

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values


Augmentation = Literal["paint", "none"]
CROP_SCALE = (0.9, 1.0)
"""The share of the image area in a random crop (released code of PAINT)."""
CROP_RATIO = (3 / 4, 4 / 3)
"""The aspect ratio of a random crop, as in torchvision's RandomResizedCrop."""


class PixelTransform:
    """The image processor of a model in two steps: images to uint8 pixels, and batches of pixels to model inputs.

    `resize_and_crop` equals `CLIPImageProcessorPil` with `do_rescale=False, do_normalize=False`, and its counterparts
    of other families, bit for bit.

    Args:
        processor: The processor of the model; it resizes to a square, or resizes and crops a square.

    Raises:
        InputError: If the processor does anything else.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        settings = processor.image_processor.to_dict()
        self.size: dict[str, int] = settings["size"]
        crop = settings["crop_size"] if settings.get("do_center_crop") else self.size
        self.crop_size = int(crop.get("height", 0))
        if not settings["do_resize"] or not settings["do_rescale"] or not self._is_square(crop):
            raise InputError(
                "The image processor must resize, crop a square from the centre (or resize to a square) and rescale, "
                f"as CLIP's does; its settings are {settings}."
            )
        self.resample = Image.Resampling(settings["resample"])
        self.scale = float(settings["rescale_factor"])
        self.mean, self.std = _normalization(settings)

    def _is_square(self, crop: dict[str, int]) -> bool:
        return 0 < self.crop_size == crop.get("width", 0) <= min(self.size.values())

    @property
    def fingerprint(self) -> str:
        """The fingerprint of everything that determines the uint8 pixels."""
        return fingerprint_values(self.size, self.crop_size, int(self.resample), PIL.__version__)

    def resize_and_crop(self, image: Image.Image) -> Tensor:
        """Return pixels (3, crop_size, crop_size), uint8: the centre of the resized image."""
        image = image.convert("RGB")
        size = self._resized(*image.size)
        resized = image.resize(size, self.resample)
        left, top = (size[0] - self.crop_size) // 2, (size[1] - self.crop_size) // 2
        return _to_tensor(resized.crop((left, top, left + self.crop_size, top + self.crop_size)))

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height of the resized image, either fixed or with the aspect ratio of the image."""
        if "shortest_edge" not in self.size:
            return self.size["width"], self.size["height"]
        edge = self.size["shortest_edge"]
        return (int(edge * width / height), edge) if width > height else (edge, int(edge * height / width))

    def random_resized_crop(self, image: Image.Image, generator: np.random.Generator) -> Tensor:
        """Return pixels (3, crop_size, crop_size), uint8: a random crop of most of the image, resized."""
        image = image.convert("RGB")
        box = _random_box(*image.size, generator)
        return _to_tensor(image.crop(box).resize((self.crop_size, self.crop_size), self.resample))

    def normalize(self, pixels: Tensor) -> Tensor:
        """Return float32 model inputs from uint8 pixels (batch, 3, height, width), on the device of the pixels."""
        mean, std = self.mean.to(pixels.device), self.std.to(pixels.device)
        # Division rounds like the processor's float64 product; in-place steps avoid allocations, the slowest part.
        return (pixels / (1 / self.scale)).sub_(mean).div_(std)


def _normalization(settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation, (3, 1, 1) each, that combine all steps after rescaling."""
    mean, std = torch.tensor(settings["image_mean"]).view(-1, 1, 1), torch.tensor(settings["image_std"]).view(-1, 1, 1)
    if not settings["do_normalize"]:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    if settings.get("rescale_offset"):  # EfficientNet's processor, used by ALIGN, maps to [-1, 1]
        mean = mean + 1
    if settings.get("include_top"):  # and divides once more, for classification
        std = std * torch.tensor(settings["image_std"]).view(-1, 1, 1)
    return mean, std


def augment(
    image: Image.Image, transform: PixelTransform, augmentation: Augmentation, key: tuple[int, int, int]
) -> Tensor:
    """Return the uint8 pixels of an image; `key`, (seed, epoch, index), determines all random numbers."""
    if augmentation == "none":
        return transform.resize_and_crop(image)
    return transform.random_resized_crop(image, np.random.default_rng(key))


def _random_box(width: int, height: int, generator: np.random.Generator) -> tuple[int, int, int, int]:
    """Draw the box of torchvision's RandomResizedCrop, or the whole image after ten failed attempts."""
    for _ in range(10):
        area = width * height * generator.uniform(*CROP_SCALE)
        ratio = math.exp(generator.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(generator.integers(width - crop_width + 1))
            top = int(generator.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    return 0, 0, width, height


def _to_tensor(image: Image.Image) -> Tensor:
    # numpy transposes, because torch would start its own threads in every decoding thread
    return torch.from_numpy(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1).copy())
