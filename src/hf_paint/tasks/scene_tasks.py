"""Tasks with drawn scenes, stored as parquet files: count objects, name an object, answer questions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

import numpy as np
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.counting import NUMBER_WORDS, count_values
from hf_paint.tasks.parquet_tasks import write_parquet_task
from hf_paint.tasks.scenes import SceneObject, SceneStyle, draw_scene
from hf_paint.tasks.task import Task


COUNTS = NUMBER_WORDS[3:11]
"""Counts that occur in CLEVR: three to ten."""
COUNTING_TEMPLATES = ("a photo of {} objects.", "there are {} objects in the image.")
SHAPES_TEMPLATES = ("a photo of a {}.", "an image of the {}.")
DEFAULT_SIZES: Mapping[str, int] = {"train": 4000, "validation": 800, "test": 800}
"""Number of images in each split."""
SPLIT_SEEDS = {"train": 0, "validation": 1, "test": 2}
MAX_QUESTIONED = 5
"""Maximum number of objects in a scene that questions are asked about."""
Row = dict[str, object]
MakeRows = Callable[[int, Sequence[int]], list[Row]]
"""Called as `make_rows(index, seed)`; returns the rows for one image."""


def write_counting_task(
    folder: str | Path,
    *,
    name: str = "counting",
    counts: Sequence[str] = COUNTS,
    sizes: Mapping[str, int] = DEFAULT_SIZES,
    style: SceneStyle | None = None,
    seed: int = 0,
) -> Task:
    """Draw a counting task, in which every number of objects occurs equally often.

    Args:
        folder: Folder for the parquet files; existing files are reused.
        name: Task name, also used as the prefix of the file names.
        counts: Class names, in words or digits.
        sizes: Split -> number of images.
        style: Appearance of the scenes.
        seed: Random seed for the scenes; the splits are independent of each other.

    Returns:
        The task, which reads the parquet files.

    Raises:
        InputError: If a count is not a number, or that many objects do not fit into a scene.

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
    """Draw a classification task: scenes with one object, for instance a red circle.

    Args:
        folder: Folder for the parquet files; existing files are reused.
        name: Task name, also used as the prefix of the file names.
        sizes: Split -> number of images.
        style: Appearance of the scenes. Each combination of a colour and a shape is a class.
        seed: Random seed for the scenes; the splits are independent of each other.

    Returns:
        The task, which reads the parquet files.

    Raises:
        InputError: If the object does not fit into a scene.

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
    """Draw a multiple-choice task: scenes with one to five objects and three questions about each scene.

    The questions ask what colour a shape is, what shape the object of a given colour is, and how many objects there
    are. Each question has three to six candidate answers.

    Args:
        folder: Folder for the parquet files; existing files are reused.
        name: Task name, also used as the prefix of the file names.
        sizes: Split -> number of images.
        style: Appearance of the scenes. `distinct` is always turned on, so that each question has one answer.
        seed: Random seed for the scenes and candidates; the splits are independent of each other.

    Returns:
        The task, which reads the parquet files.

    Raises:
        InputError: If five objects do not fit into a scene, or there are too few colours or shapes for five distinct
            objects.

    Example:
        >>> write_questions_task(tmp_path, sizes={"validation": 2, "test": 2}).choices_column
        'choices'
    """
    style = replace(style or SceneStyle(radius=(0.09, 0.15)), distinct=True)

    def rows(index: int, seed: Sequence[int]) -> list[Row]:
        scene = draw_scene(1 + index % MAX_QUESTIONED, seed, style)
        return [
            {"image": scene.image, "image_id": index} | question for question in _questions(scene.objects, seed, style)
        ]

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
    rng = np.random.default_rng((*seed, 1))  # independent of the random numbers that drew the scene
    first, second = (objects[index] for index in rng.integers(len(objects), size=2))
    questions = [
        (f"what colour is the {first.shape}?", first.colour, style.colours, "colour"),
        (f"what shape is the {second.colour} object?", second.shape, style.shapes, "shape"),
        ("how many objects are there?", NUMBER_WORDS[len(objects)], NUMBER_WORDS[1 : MAX_QUESTIONED + 2], "count"),
    ]
    return [
        {"question": text, "choices": _choices(answer, names, rng), "answer": answer, "answer_type": answer_type}
        for text, answer, names, answer_type in questions
    ]


def _choices(answer: str, names: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Return the answer and two to five wrong candidates, shuffled."""
    others = [str(other) for other in rng.permutation([other for other in names if other != answer])]
    choices = [answer, *others[: rng.integers(2, 6)]]
    return [str(choice) for choice in rng.permutation(choices)]


def _write_task(
    folder: Path,
    name: str,
    sizes: Mapping[str, int],
    *,
    rows: MakeRows,
    features: Features,
    keys: Mapping[str, object],
    seed: tuple[int, SceneStyle],
) -> Task:
    """Write each split to a file whose name contains a fingerprint of the arguments."""

    def make_rows(split: str) -> Dataset:
        drawn = [row for index in range(sizes[split]) for row in rows(index, (seed[0], SPLIT_SEEDS[split], index))]
        return Dataset.from_list(drawn, features=features)

    digests = {
        split: fingerprint_values(split, size, seed[0], asdict(seed[1]), dict(keys)) for split, size in sizes.items()
    }
    files = {split: folder / f"{name}-{split}-{digest[:8]}.parquet" for split, digest in digests.items()}
    splits = {split: split if split in sizes else None for split in SPLIT_SEEDS}
    return write_parquet_task(files, make_rows, {"name": name, "splits": splits, **keys})
