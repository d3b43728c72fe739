"""Tasks of drawn images: noise whose colour is the class."""

import io
from functools import cache
from pathlib import Path

import numpy as np
import yaml
from datasets import ClassLabel, Dataset, Features, Image, Value
from PIL import Image as PILImage

from hf_paint import Task


CLASS_NAMES = ("red", "green", "blue", "grey")


def draw_rows(num_rows, seed, *, names=CLASS_NAMES, size=(40, 36)):
    """Rows of noisy images whose colour is their class."""
    generator = np.random.default_rng(seed)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [130, 130, 130]])
    labels = generator.integers(len(names), size=num_rows)
    noise = generator.integers(-60, 60, size=(num_rows, size[1], size[0], 3))
    pixels = np.clip(colours[labels % 4][:, None, None] + noise, 0, 255).astype(np.uint8)
    return {
        "image": [PILImage.fromarray(image) for image in pixels],
        "label": labels.tolist(),
        "track": (np.arange(num_rows) // 4).tolist(),
    }


def write_task(folder, name="colours", *, train=80, test=40, names=CLASS_NAMES, seed=0, size=(40, 36), **keys):
    """Write parquet files and return the task that reads them."""
    folder.mkdir(parents=True, exist_ok=True)
    image_format, files = keys.pop("image_format", None), {}
    for split, count in (("train", train), ("test", test)):
        files[split] = str(folder / f"{name}-{split}.parquet")
        rows = draw_parquet(count, seed + (split == "test"), tuple(names), size, image_format)
        Path(files[split]).write_bytes(rows)
    definition = {"name": name, "dataset": "parquet", "data_files": files, "templates": ["a photo of a {}."]}
    return Task.from_dict(definition | keys)


@cache
def draw_parquet(num_rows, seed, names, size, image_format):
    """The bytes of a parquet file of drawn rows: a thousand tests need the same ones."""
    rows = draw_rows(num_rows, seed, names=names, size=size)
    if image_format:
        rows["image"] = [encode(image, image_format) for image in rows["image"]]
    features = Features({"image": Image(), "label": ClassLabel(names=list(names)), "track": Value("int64")})
    file = io.BytesIO()
    Dataset.from_dict(rows, features=features).to_parquet(file, batch_size=1000)  # datasets 4 cannot size 0 rows
    return file.getvalue()


def draw_textures(folder):
    """Draw the folder of pictures that the documentation names: one folder per class."""
    names = ("banded", "dotted", "woven")
    rows = draw_rows(40, 0, names=names)
    for number, (image, label) in enumerate(zip(rows["image"], rows["label"], strict=True)):
        (folder / names[label]).mkdir(parents=True, exist_ok=True)
        image.save(folder / names[label] / f"{number}.png")


def encode(image, image_format):
    file = io.BytesIO()
    image.save(file, image_format)
    return {"bytes": file.getvalue(), "path": None}


def write_task_yaml(folder, name="colours", **keys):
    """Write a task and its YAML, and return the path of the YAML."""
    task = write_task(folder, name, **keys)
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(task.to_dict()))
    return str(path)
