"""Tasks of drawn scenes, as parquet files: counting objects, naming one, and answering questions about several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.counting import NUMBER_WORDS, count_values
from hf_paint.tasks.scenes import SceneObject, SceneStyle, draw_scene
from hf_paint.tasks.task import Task


COUNTS = NUMBER_WORDS[3:11]
"""The counts of CLEVR: three to ten."""
COUNTING_TEMPLATES = ("a photo of {} objects.", "there are {} objects in the image.")
SHAPES_TEMPLATES = ("a photo of a {}.", "an image of the {}.")
DEFAULT_SIZES: Mapping[str, int] = {"train": 4000, "validation": 800, "test": 800}
"""Images of each split."""
SPLIT_SEEDS = {"train": 0, "validation": 1, "test": 2}
MAX_QUESTIONED = 5
"""The most objects in a scene about which questions are asked."""
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


def write_questions_task(
    folder: str | Path,
    *,
    name: str = "questions",
    sizes: Mapping[str, int] = DEFAULT_SIZES,
    style: SceneStyle | None = None,
    seed: int = 0,
) -> Task:
    """Draw a multiple-choice task: scenes of one to five objects, each with three questions about it.

    What colour is the star, what shape is the red object, and how many objects are there: three to six candidates,
    which differ from question to question.

    Args:
        folder: Where the parquet files go.
        name: The name of the task, with which the names of its files begin.
        sizes: Split -> how many images.
        style: What the scenes may look like; `distinct` is needed for a question to have one answer.
        seed: Of the scenes and the candidates.

    Raises:
        InputError: If five objects have no room, or cannot all differ.

    Example:
        >>> write_questions_task(tmp_path, sizes={"validation": 2, "test": 2}).choices_column
        'choices'
    """
    style = replace(style or SceneStyle(radius=(0.09, 0.15)), distinct=True)

    def rows(index: int, seed: Sequence[int]) -> list[Row]:
        scene = draw_scene(1 + index % MAX_QUESTIONED, seed, style)
        return [{"image": scene.image, "image_id": index} | asked for asked in _questions(scene.objects, seed, style)]

    keys = {
        "choices_column": "choices",
        "answer_type_column": "answer_type",
        "group_column": "image_id",
        "templates": ["{}"],
    }
    text = Value("string")
    columns = {"question": text, "choices": List(text), "answer": text, "answer_type": text}
    features = Features({"image": Image(), "image_id": Value("int64")} | columns)
    return _write_task(Path(folder), name, sizes, rows=rows, features=features, keys=keys, seed=(seed, style))


def _questions(objects: Sequence[SceneObject], seed: Sequence[int], style: SceneStyle) -> list[Row]:
    rng = np.random.default_rng((*seed, 1))  # a stream of its own beside that of the scene
    first, second = (objects[index] for index in rng.integers(len(objects), size=2))
    asked = [
        (f"what colour is the {first.shape}?", first.colour, style.colours, "colour"),
        (f"what shape is the {second.colour} object?", second.shape, style.shapes, "shape"),
        ("how many objects are there?", NUMBER_WORDS[len(objects)], NUMBER_WORDS[1 : MAX_QUESTIONED + 2], "count"),
    ]
    rows = []
    for question, answer, names, kind in asked:
        others = [str(other) for other in rng.permutation([other for other in names if other != answer])]
        choices = [answer, *others[: rng.integers(2, 6)]]
        shuffled = [str(choice) for choice in rng.permutation(choices)]
        rows.append({"question": question, "choices": shuffled, "answer": answer, "answer_type": kind})
    return rows


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
            save_atomically(path, Dataset.from_list(drawn, features=features).to_parquet)
        files[split] = str(path)
    splits = {split: split if split in sizes else None for split in SPLIT_SEEDS}
    return Task.from_dict({"name": name, "dataset": "parquet", "data_files": files, "splits": splits} | dict(keys))
