"""The pictures in the `examples` folder of a run, and what is known of them. Does not need torch."""

from collections.abc import Sequence
from pathlib import Path
from typing import TypedDict

from hf_paint.documents.shapes import read_shaped
from hf_paint.errors import InputError
from hf_paint.results.alphas import AlphaJson
from hf_paint.results.records import Role
from hf_paint.results.run_files import EXAMPLES
from hf_paint.results.stored import AGAIN, read_named_tasks
from hf_paint.weights.folders import TASKS
from hf_paint.weights.manifest import check_whole


PICTURES = "examples.json"


class Picture(TypedDict):
    """A picture of a task as the model sees it, at most 224 pixels wide and high.

    Attributes:
        file: Path to the JPEG file, relative to the `examples` folder.
        index: Index of the picture in its split, as in `Answers.images`.
        labels: Indices of the right candidates: one, or the classes of a multi-label task.
        written: Index of the class whose name is written on the picture. None without words.
        question: What is asked about the picture. None if the candidates are classes.
        candidates: Candidate answers to the question. None if the candidates are the classes of the task, which are
            in `tasks.json`.
    """

    file: str
    index: int
    labels: list[int]
    written: int | None
    question: str | None
    candidates: list[str] | None


class TaskPictures(TypedDict):
    """The pictures of a task: first those that the patch makes right or wrong, then those that fine-tuning does.

    Attributes:
        role: Role of the task.
        split: Split of the pictures, on which `Details.answers` has the answers at every alpha.
        alpha: Alpha for which they were chosen.
        note: How they were chosen, as a sentence.
        pictures: The pictures.
    """

    role: Role
    split: str
    alpha: AlphaJson
    note: str
    pictures: list[Picture]


def read_pictures(run_folder: str | Path) -> dict[str, TaskPictures]:
    """Return task -> pictures, in the order of the run; a run without the `examples` folder has none.

    Raises:
        InputError: If `examples/examples.json` is not valid JSON, names a file outside of the `examples` folder, or
            gives a picture a label that the task does not have. A run may come from a stranger, and its pictures are
            shown and published.
    """
    folder = Path(run_folder) / EXAMPLES
    check_whole(folder, may_lack_files=True)
    pictures = read_shaped(folder / PICTURES, dict[str, TaskPictures], advice=AGAIN) or {}
    class_names = {task["name"]: task["class_names"] for task in read_named_tasks(Path(run_folder) / TASKS)}
    for name, task in pictures.items():
        for picture in task["pictures"]:
            _check(folder, picture, picture["candidates"] or class_names.get(name))
    return pictures


def _check(folder: Path, picture: Picture, candidates: Sequence[str] | None) -> None:
    """Check the file of a picture and, if its candidates are known, its labels."""
    if not (folder / picture["file"]).resolve().is_relative_to(folder.resolve()):
        raise InputError(
            f"{folder / PICTURES} names the file '{picture['file']}', but pictures must be in {folder}. Remove this "
            "entry."
        )
    for label in (*picture["labels"], picture["written"]):
        if label is not None and candidates is not None and not 0 <= label < len(candidates):
            raise InputError(
                f"{folder / PICTURES} gives '{picture['file']}' the label {label}, but there are {len(candidates)} "
                f"candidates. {AGAIN}"
            )
