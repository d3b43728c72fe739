"""Tasks of drawn scenes, as parquet files: how many objects there are, and what a single one is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

from datasets import ClassLabel, Dataset, Features, Image

from hf_paint.counting import NUMBER_WORDS, count_values
from hf_paint.fingerprints import fingerprint_values
from hf_paint.scenes import SceneStyle, draw_scene
from hf_paint.tasks import Task


COUNTS = NUMBER_WORDS[3:11]
"""The counts of CLEVR: three to ten."""
COUNTING_TEMPLATES = ("a photo of {} objects.", "there are {} objects in the image.")
SHAPES_TEMPLATES = ("a photo of a {}.", "an image of the {}.")
DEFAULT_SIZES: Mapping[str, int] = {"train": 4000, "validation": 800, "test": 800}
"""Images of each split."""
SPLIT_SEEDS = {"train": 0, "validation": 1, "test": 2}
Row = dict[str, Any]


def write_counting_task(
    folder: str | Path,
    *,
    name: str = "counting",
    counts: Sequence[str] = COUNTS,
    sizes: Mapping[str, int] = DEFAULT_SIZES,
    style: SceneStyle | None = None,
    seed: int = 0,
) -> Task:
    """Draw a task of counting: scenes with so many objects, the counts taking turns.

    Args:
        folder: Where the parquet files go; a file that is there is taken as it is.
        name: The name of the task, with which the names of its files begin.
        counts: The class names: words or digits.
        sizes: Split -> how many images.
        style: What the scenes may look like.
        seed: Of the scenes; those of two splits are independent.

    Raises:
        InputError: If a count is no number, or so many objects have no room.

    Example:
        >>> sizes = {"train": 8, "validation": 4, "test": 4}
        >>> write_counting_task(tmp_path, counts=["three", "four"], sizes=sizes).class_names
        ('three', 'four')
    """
    values = count_values(counts)

    style = style or SceneStyle()

    def rows(index: int, seed: Sequence[int]) -> list[Row]:
        label = index % len(values)
        return [{"image": draw_scene(int(values[label]), seed, style).image, "label": label}]

    keys = {"class_names": list(counts), "templates": list(COUNTING_TEMPLATES), "counting": True}
    features = Features({"image": Image(), "label": ClassLabel(names=list(counts))})
    return _write_task(Path(folder), name, sizes, rows=rows, features=features, keys=keys, seed=(seed, style))


def write_shapes_task(
    folder: str | Path,
    *,
    name: str = "shapes",
    sizes: Mapping[str, int] = DEFAULT_SIZES,
    style: SceneStyle | None = None,
    seed: int = 0,
) -> Task:
    """Draw a task of naming: scenes with one object, such as a red circle.

    Args:
        folder: Where the parquet files go.
        name: The name of the task, with which the names of its files begin.
        sizes: Split -> how many images.
        style: What the scenes may look like; its shapes and colours make the classes.
        seed: Of the scenes.

    Raises:
        InputError: If the object has no room.

    Example:
        >>> len(write_shapes_task(tmp_path, sizes={"validation": 4, "test": 4}).class_names)
        60
    """
    style = style or SceneStyle(radius=(0.2, 0.4))
    classes = list(product(style.colours, style.shapes))

    def rows(index: int, seed: Sequence[int]) -> list[Row]:
        colour, shape = classes[index % len(classes)]
        one = replace(style, colours=[colour], shapes=[shape])
        return [{"image": draw_scene(1, seed, one).image, "label": index % len(classes)}]

    names = [" ".join(pair) for pair in classes]
    keys = {"class_names": names, "templates": list(SHAPES_TEMPLATES)}
    features = Features({"image": Image(), "label": ClassLabel(names=names)})
    return _write_task(Path(folder), name, sizes, rows=rows, features=features, keys=keys, seed=(seed, style))


def _write_task(
    folder: Path,
    name: str,
    sizes: Mapping[str, int],
    *,
    rows: Callable[[int, Sequence[int]], list[Row]],
    features: Features,
    keys: Mapping[str, Any],
    seed: tuple[int, SceneStyle],
) -> Task:
    """Write the rows of each split to a file that is named after all that decides them, unless it is there."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {}
    for split, size in sizes.items():
        digest = fingerprint_values(split, size, seed[0], asdict(seed[1]), dict(keys))
        path = folder / f"{name}-{split}-{digest[:8]}.parquet"
        if not path.exists():
            stream = (seed[0], SPLIT_SEEDS[split])
            drawn = [row for index in range(size) for row in rows(index, (*stream, index))]
            partial = path.with_suffix(".partial")
            Dataset.from_list(drawn, features=features).to_parquet(partial)
            partial.replace(path)
        files[split] = str(path)
    splits = {split: split if split in sizes else None for split in SPLIT_SEEDS}
    return Task.from_dict({"name": name, "dataset": "parquet", "data_files": files, "splits": splits} | dict(keys))
