"""Training images per second and core: decoded and augmented one by one, against pictures that are decoded once.

    python tests/benchmarks/feeding.py [--rounds 5] [--threads N] [--quick] [--json FILE]

Each way makes the batches of an epoch in one process on one core. Small pictures are those of MNIST, CIFAR-10 and
GTSRB, and JPEGs ImageNet originals, if the reference data is beside the checkout; otherwise they are drawn. Decoding
once is not counted: it is shared by all epochs, and all trainings on the same data. The difference is that of a
pixel, on a scale of 255, from what Pillow makes of the same crop.
"""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import FOLDER, Row, Target, arguments, compare, interleave, report, seconds
from datasets import ClassLabel, Dataset as Table, Features, Image
from inputs import SHARED, make_image_task, make_processor
from PIL import Image as PILImage
from torch import Tensor

from hf_paint import Task
from hf_paint.data.images import collate
from hf_paint.data.pictures import Pictures
from hf_paint.data.resampling import resize
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform


BATCH_SIZE = 128
SMALL = {"mnist": (28, 28), "cifar10": (32, 32), "gtsrb": (40, 45)}


def main() -> None:
    """Measure JPEGs and small pictures."""
    parsed = arguments(__doc__)
    torch.set_num_threads(1)
    processor = make_processor(["a photo"], vocab_size=300)
    number = 16 if parsed.quick else 512
    tasks = {**dict([make_image_task(FOLDER, min(number, 250))[::-1]]), **dict(map(partial(small, number), SMALL))}
    rows: list[Row] = []
    for kind, task in tasks.items():
        rows += measure(kind, task, PixelTransform(processor), parsed)
    report(rows, parsed)


def small(number: int, name: str) -> tuple[str, Task]:
    """Return a description and a task with pictures of a data set, or drawn ones of their usual size, as PNGs."""
    path = next(iter(sorted((SHARED / "data" / name).glob("*train*.parquet"))), None)
    if path is not None:
        table = Table.from_parquet(str(path))
        column = next(key for key, feature in table.features.items() if isinstance(feature, Image))
        pictures, kind = table.select(range(min(number, len(table))))[column], f"{name} pictures"
    else:
        generator = np.random.default_rng(0)
        pixels = generator.integers(0, 256, (number, *SMALL[name], 3), dtype=np.uint8)
        pictures, kind = [PILImage.fromarray(x) for x in pixels], f"drawn pictures like {name}"
    features = Features({"image": Image(), "label": ClassLabel(names=["a", "b"])})
    file = FOLDER / f"{name}.parquet"
    Table.from_dict({"image": pictures, "label": [0] * len(pictures)}, features=features).to_parquet(file)
    keys = {"name": name, "dataset": "parquet", "data_files": {"test": str(file)}, "templates": ["{}"]}
    return kind, Task.from_dict(keys | {"splits": {"train": None, "validation": None, "test": "test"}})


def measure(kind: str, task: Task, transform: PixelTransform, parsed) -> list[Row]:
    """Return the rows for the pictures of a task."""
    splits = {"train": "test", "validation": None, "test": None}
    split = load_splits(Task.from_dict(task.to_dict() | {"splits": splits}), ("train",))["train"]
    cache = Path(FOLDER) / "cache"
    make = partial(TrainImages, split, transform, "paint", seed=0)
    kept = Pictures(split, cache_dir=cache), Pictures(split, 256, cache_dir=cache)
    ways = {
        "before": make(),
        "cpu": make(pictures=kept[0]),
        "device": make(pictures=kept[1], resize=False),
    }
    for pictures in kept:
        pictures.load()
    batches = {name: partial(epoch, images, transform) for name, images in ways.items()}
    runs = interleave({name: partial(seconds, way) for name, way in batches.items()}, parsed.rounds)
    pixels = {name: torch.cat(way()).int() for name, way in batches.items()}
    count = len(split.rows)
    is_small = "JPEG" not in kind
    targets = {"cpu": Target(difference=0), "device": Target(speedup=5 if is_small else 3)}
    names = {"cpu": "`cpu`, decoded once", "device": "`cuda` (here the CPU), decoded once"}
    return [
        compare(
            f"training images, {kind}, {names[name]}",
            runs["before"],
            runs[name],
            unit="images",
            work=(count, count),
            difference=float((pixels[name] - pixels["before"]).abs().float().mean()),
            target=target,
        )
        for name, target in targets.items()
    ]


def epoch(images: TrainImages, transform: PixelTransform) -> list[Tensor]:
    """Return the uint8 batches of an epoch, in a random order that is always the same."""
    order = np.random.default_rng(0).permutation(len(images)).tolist()
    found = []
    for start in range(0, len(order), BATCH_SIZE):
        batch = collate([images[index] for index in order[start : start + BATCH_SIZE]])
        if "crops" in batch:
            batch["pixel_values"] = resize(batch["crops"], batch["sizes"], transform.crop_size, transform.resample)
        found.append(batch["pixel_values"])
    return found


if __name__ == "__main__":
    main()
