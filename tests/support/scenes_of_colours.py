"""Multi-label tasks of drawn images: stripes in the colours of the classes that an image shows."""

import json

import numpy as np
import yaml
from datasets import ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from drawn_tasks import CLASS_NAMES
from hf_paint import Task


COLOURS = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200], [130, 130, 130]])


def draw_scenes(num_rows, seed):
    """Images with stripes of up to three classes, or of none, and the classes of each in random order."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(0, 4, size=num_rows)
    labels = [generator.permutation(4)[:size].tolist() for size in sizes]
    images = []
    for own in labels:
        pixels = generator.integers(0, 60, size=(36, 36, 3))
        for stripe, label in enumerate(own):
            pixels[:, 12 * stripe : 12 * stripe + 12] += COLOURS[label]
        images.append(PILImage.fromarray(pixels.clip(0, 255).astype(np.uint8)))
    return images, labels


def write_scenes(folder, name="scenes", *, form="classes", train=24, test=20, seed=0, **keys):
    """Write a multi-label task and return it; `form` is how the labels of an image are written."""
    folder.mkdir(parents=True, exist_ok=True)
    definition = {"name": name, "multi_label": True, "templates": ["a photo of {}."], "class_names": [*CLASS_NAMES]}
    files = {}
    for split, count in (("train", train), ("test", test)):
        images, labels = draw_scenes(count, seed + (split == "test"))
        names = [[CLASS_NAMES[label] for label in own] for own in labels]
        if form in ("csv", "jsonl"):
            place = folder / name / split
            place.mkdir(parents=True)
            for number, image in enumerate(images):
                image.save(place / f"{number}.png")
            rows = [
                {"file_name": f"{number}.png", "label": own if form == "jsonl" else "; ".join(own)}
                for number, own in enumerate(names)
            ]
            table = ["file_name,label", *(f"{row['file_name']},{row['label']}" for row in rows)]
            lines = map(json.dumps, rows) if form == "jsonl" else table
            (place / f"metadata.{form}").write_text("\n".join(lines) + "\n")
            continue
        kinds = {
            "classes": List(ClassLabel(names=[*CLASS_NAMES])),
            "names": List(Value("string")),
            "positions": List(Value("int32")),
            "text": Value("string"),
            "digits": Value("string"),
        }
        values = {
            "names": names,
            "text": [" ;".join(own) for own in names],
            "digits": [";".join(map(str, own)) for own in labels],
        }.get(form, labels)
        features = Features({"image": Image(), "label": kinds[form]})
        files[split] = str(folder / f"{name}-{split}.parquet")
        Dataset.from_dict({"image": images, "label": values}, features=features).to_parquet(files[split])
    if form in ("csv", "jsonl"):
        definition |= {"dataset": "imagefolder", "data_dir": str(folder / name)}
    else:
        definition |= {"dataset": "parquet", "data_files": files}
    if form in ("csv", "text", "digits"):
        definition["label_separator"] = ";"
    if form == "classes":
        del definition["class_names"]
    return Task.from_dict(definition | keys)


def write_scenes_yaml(folder, name="scenes", **keys):
    """Write a multi-label task and its YAML, and return the path of the YAML."""
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(write_scenes(folder, name, **keys).to_dict()))
    return str(path)
