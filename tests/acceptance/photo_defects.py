"""A third task for merging, made of the photos beside the checkout: what is wrong with a photo?

MNIST, GTSRB and CIFAR-10 are digits, signs and objects. The 250 ImageNet photos are too few to learn their classes
from, but enough to learn what was done to a photo, which tiny-clip cannot tell. Crops of one photo are all in the same
split.
"""

import io
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, load_dataset
from PIL import Image as PILImage, ImageFilter, ImageOps

from hf_paint import Task, get_task


SIZE, CROPS = 32, {"train": 12, "test": 8}
NUM_TEST_PHOTOS = 80
DEFECTS = {
    "blurry": lambda image, random: image.filter(ImageFilter.GaussianBlur(1.5)),
    "noisy": lambda image, random: _noise(image, random),
    "pixelated": lambda image, random: image.resize((8, 8)).resize((SIZE, SIZE), PILImage.Resampling.NEAREST),
    "black and white": lambda image, random: image.convert("L").convert("RGB"),
    "negative": lambda image, random: ImageOps.invert(image),
    "overexposed": lambda image, random: image.point(lambda x: min(255, 120 + x)),
    "dark": lambda image, random: image.point(lambda x: x // 4),
    "upside-down": lambda image, random: ImageOps.flip(image),
}


def make_task(photos: Path, folder: Path) -> Task:
    """Write the images of the task into a folder, unless they are there, and return the task."""
    paths = {split: folder / f"{split}.parquet" for split in CROPS}
    if not all(path.exists() for path in paths.values()):
        folder.mkdir(parents=True, exist_ok=True)
        images = load_dataset("parquet", data_files={"test": str(photos)}, split="test")["image"]
        for split, rows in (("train", range(NUM_TEST_PHOTOS, len(images))), ("test", range(NUM_TEST_PHOTOS))):
            _write(paths[split], [images[row] for row in rows], CROPS[split])
    return get_task(
        {
            "name": "photo-defects",
            "dataset": "parquet",
            "data_files": {split: str(path.resolve()) for split, path in paths.items()},
            "templates": ["a {} photo."],
            "group_column": "photo",
        }
    )


def _write(path: Path, photos: list[PILImage.Image], crops: int) -> None:
    random, rows = np.random.default_rng(0), {"image": [], "label": [], "photo": []}
    for number, photo in enumerate(photos):
        for _ in range(crops):
            label = int(random.integers(len(DEFECTS)))
            damage = list(DEFECTS.values())[label]
            file = io.BytesIO()
            damage(_crop(photo.convert("RGB"), random), random).save(file, format="PNG")
            rows["image"].append({"bytes": file.getvalue(), "path": None})
            rows["label"].append(label)
            rows["photo"].append(number)
    features = Features({"image": Image(), "label": ClassLabel(names=list(DEFECTS))})
    table = Dataset.from_dict({"photo": rows["photo"]})
    for name, feature in features.items():
        table = table.add_column(name, rows[name], feature=feature)
    table.to_parquet(str(path))


def _crop(photo: PILImage.Image, random: np.random.Generator) -> PILImage.Image:
    """Return a random square of half to all of the shorter side, resized."""
    side = int(min(photo.size) * random.uniform(0.5, 1))
    left, top = (int(random.integers(length - side + 1)) for length in photo.size)
    return photo.crop((left, top, left + side, top + side)).resize((SIZE, SIZE), PILImage.Resampling.BICUBIC)


def _noise(image: PILImage.Image, random: np.random.Generator) -> PILImage.Image:
    pixels = np.asarray(image, dtype=float) + random.normal(0, 50, (SIZE, SIZE, 3))
    return PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8))
