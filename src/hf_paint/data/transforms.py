"""Transforms from images to pixels: resizing and cropping as a model's processor does, and PAINT's augmentation."""

import math
from typing import Any, Literal, TypeAlias

import numpy as np
import PIL
import torch
from PIL import Image
from torch import Tensor
from transformers import ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.probes import fingerprint_code
from hf_paint.tasks.rgb import to_rgb


Augmentation = Literal["paint", "none"]
AugmentationDevice = Literal["auto", "cpu", "cuda"]
Box: TypeAlias = tuple[int, int, int, int]
Key: TypeAlias = tuple[int, int, int]
CROP_SCALE = (0.9, 1.0)
"""Fraction of the image area that a random crop covers, as in PAINT's released code."""
CROP_RATIO = (3 / 4, 4 / 3)
"""Aspect ratio of a random crop, as in torchvision's RandomResizedCrop."""

MAX_RATIO = 20
"""Maximum aspect ratio of an image that is resized whole. Strips could otherwise need gigabytes."""


class PixelTransform:
    """A model's image processor, split into two steps: images to uint8 pixels, and batches of pixels to model inputs.

    `resize_and_crop` is bit-for-bit identical to `CLIPImageProcessorPil` with `do_rescale=False, do_normalize=False`,
    and to the corresponding processors of other families.

    Args:
        processor: Processor of the model, which must resize to a square, or resize and crop to a square.

    Raises:
        InputError: If the processor does anything else.
    """

    def __init__(self, processor: ProcessorMixin) -> None:
        settings = processor.image_processor.to_dict()
        self.size: dict[str, int] = settings["size"]
        crop = settings["crop_size"] if settings.get("do_center_crop") else self.size
        self.crop_size: int = int(crop.get("height", 0))
        if not settings["do_resize"] or not settings["do_rescale"] or not self._is_square(crop):
            raise InputError(
                "The image processor must, like CLIP's, rescale and either resize to a square or resize and then crop "
                f"a square from the centre. Its settings are {settings}."
            )
        self.resample: Image.Resampling = Image.Resampling(settings["resample"])
        self.scale: float = float(settings["rescale_factor"])
        mean, std = _normalization(settings)
        self.mean: Tensor = mean
        self.std: Tensor = std
        self._constants: dict[torch.device, tuple[Tensor, Tensor]] = {}

    def _is_square(self, crop: dict[str, int]) -> bool:
        return 0 < self.crop_size == crop.get("width", 0) <= min(self.size.values())

    @property
    def fingerprint(self) -> str:
        """Fingerprint of all settings, and of the code, that affect the uint8 pixels."""
        code = fingerprint_code(self._resize_and_crop)
        return fingerprint_values(self.size, self.crop_size, int(self.resample), PIL.__version__, code)

    def resize_and_crop(self, image: Image.Image) -> Tensor:
        """Resize an image and crop its centre to uint8 pixels (3, crop_size, crop_size).

        Of a strip, only the part that is kept is resized, so that it takes no more memory than other images. Up to
        rounding, the pixels are those of the whole strip, resized and cropped.
        """
        return _to_tensor(self._resize_and_crop(image))

    def _resize_and_crop(self, image: Image.Image) -> Image.Image:
        image = to_rgb(image)
        size, edge = self._resized(*image.size), self.crop_size
        left, top = (size[0] - edge) // 2, (size[1] - edge) // 2
        box = (left, top, left + edge, top + edge)
        if max(size) > MAX_RATIO * min(size):
            return _resize_part(image, size, box, self.resample)
        return image.resize(size, self.resample).crop(box)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height to resize to, which are either fixed or keep the aspect ratio of the image."""
        if "shortest_edge" not in self.size:
            return self.size["width"], self.size["height"]
        edge = self.size["shortest_edge"]
        return (int(edge * width / height), edge) if width > height else (edge, int(edge * height / width))

    def random_resized_crop(self, image: Image.Image, generator: np.random.Generator) -> Tensor:
        """Crop most of an image at random, and resize the crop to uint8 pixels (3, crop_size, crop_size)."""
        image = to_rgb(image)
        box = random_box(*image.size, generator)
        return self.resize(image.crop(box))

    def resize(self, crop: Image.Image) -> Tensor:
        """Resize an RGB image, whatever its shape, to uint8 pixels (3, crop_size, crop_size)."""
        return _to_tensor(crop.resize((self.crop_size, self.crop_size), self.resample))

    def _constants_on(self, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the mean and the standard deviation on a device, copied there once: a copy waits for the device."""
        if device not in self._constants:
            self._constants[device] = (self.mean.to(device), self.std.to(device))
        return self._constants[device]

    def normalize(self, pixels: Tensor) -> Tensor:
        """Convert uint8 pixels (batch, 3, height, width) to float32 model inputs, on the same device."""
        mean, std = self._constants_on(pixels.device)
        if pixels.device.type == "cuda":  # one pass over the memory instead of three; it differs by rounding
            return torch.addcmul(-mean / std, pixels, self.scale / std)
        # Division rounds like the processor's float64 product. Allocations are the slowest part, hence in-place steps.
        return (pixels / (1 / self.scale)).sub_(mean).div_(std)


def _normalization(settings: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Combine all steps after rescaling into one mean and one standard deviation, (3, 1, 1) each."""
    mean, std = torch.tensor(settings["image_mean"]).view(-1, 1, 1), torch.tensor(settings["image_std"]).view(-1, 1, 1)
    if not settings["do_normalize"]:
        mean, std = torch.zeros_like(mean), torch.ones_like(std)
    if settings.get("rescale_offset"):  # EfficientNet's processor, used by ALIGN, maps to [-1, 1]
        mean = mean + 1
    if settings.get("include_top"):  # and divides once more, for classification
        std = std * torch.tensor(settings["image_std"]).view(-1, 1, 1)
    return mean, std


def augment(image: Image.Image, transform: PixelTransform, augmentation: Augmentation, key: Key) -> Tensor:
    """Augment an image and return its uint8 pixels; all randomness comes from `key`, (seed, epoch, index)."""
    if augmentation == "none":
        return transform.resize_and_crop(image)
    return transform.random_resized_crop(image, np.random.default_rng(key))


def random_box(width: int, height: int, generator: np.random.Generator) -> Box:
    """Draw a crop box, (left, top, right, bottom), as torchvision's RandomResizedCrop does (`get_params`).

    After ten failed attempts, as for many 3:2 photographs, it is the largest box in the centre with an allowed ratio.
    """
    for _ in range(10):
        area = width * height * generator.uniform(*CROP_SCALE)
        ratio = math.exp(generator.uniform(math.log(CROP_RATIO[0]), math.log(CROP_RATIO[1])))
        crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < crop_width <= width and 0 < crop_height <= height:
            left = int(generator.integers(width - crop_width + 1))
            top = int(generator.integers(height - crop_height + 1))
            return left, top, left + crop_width, top + crop_height
    ratio = min(max(width / height, CROP_RATIO[0]), CROP_RATIO[1])
    crop_width, crop_height = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - crop_width) // 2, (height - crop_height) // 2
    return left, top, left + crop_width, top + crop_height


def _resize_part(
    image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int], resample: Image.Resampling
) -> Image.Image:
    """Return what `image.resize(size, resample).crop(box)` would, from the pixels that it depends on."""
    scale = np.array(image.size) / size
    begin, end = box[:2] * scale, np.minimum(box[2:] * scale, image.size)
    margin = 4 * np.maximum(scale, 1)  # wider than any filter
    first = np.maximum(np.floor(begin - margin), 0)
    last = np.minimum(np.ceil(end + margin), image.size)
    # cropped first, because Pillow rounds the box to float32, which is coarse far from the origin
    part = image.crop((*first, *last))
    return part.resize((box[2] - box[0], box[3] - box[1]), resample, (*(begin - first), *(end - first)))


def _to_tensor(image: Image.Image) -> Tensor:
    # transpose in numpy: torch would start more threads in every decoding thread
    return torch.from_numpy(np.asarray(image, dtype=np.uint8).transpose(2, 0, 1).copy())
