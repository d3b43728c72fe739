"""Folders of pictures whose colour tells their class, whatever the folders are called."""

import colorsys
import io
import zipfile
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from hf_paint import Task


def draw_picture(hue, seed, size=(40, 36)):
    """A noisy picture of one hue, in [0, 1)."""
    noise = np.random.default_rng(seed).integers(-20, 20, size=(size[1], size[0], 3))
    colour = 40 + 160 * np.array(colorsys.hsv_to_rgb(hue, 1, 1))
    return Image.fromarray(np.clip(colour + noise, 0, 255).astype(np.uint8))


def read_hue(image):
    """The hue of a picture, rounded to twentieths."""
    red, green, blue = np.asarray(image.convert("RGB")).reshape(-1, 3).mean(0) / 255
    return round(20 * colorsys.rgb_to_hsv(red, green, blue)[0]) % 20


def draw_folder(folder, files):
    """Draw a picture at each path; the value is the number of twentieths of its hue, or the text of another file."""
    for seed, (name, content) in enumerate(files.items()):
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            path.write_text(content)
        else:
            draw_picture(content / 20, seed).save(path, "PNG")
    return folder


def draw_zip(path, files):
    """Write the pictures of `draw_folder` to a zip file."""
    with zipfile.ZipFile(path, "w") as archive:
        for seed, (name, hue) in enumerate(files.items()):
            buffer = io.BytesIO()
            draw_picture(hue / 20, seed).save(buffer, "PNG")
            archive.writestr(name, buffer.getvalue())


def several(pattern, count, hue):
    """Paths of pictures of the same hue: `several("cat/{}.png", 2, 3)` is `{"cat/0.png": 3, "cat/1.png": 3}`."""
    return {pattern.format(index): hue for index in range(count)}


def folder_task(folder, name="folder", **keys):
    """A task that reads a folder, by default a single split for testing."""
    definition = {"name": name, "dataset": "imagefolder", "data_dir": str(folder), "templates": ["a photo of a {}."]}
    definition |= {"splits": {"train": None, "validation": None, "test": "train"}}
    return Task.from_dict({key: value for key, value in (definition | keys).items() if value is not None})


def write_yaml(task, folder):
    """Write the YAML of a task and return its path."""
    path = Path(folder) / f"{task.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(task.to_dict()))
    return str(path)
