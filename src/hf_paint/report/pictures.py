"""The example pictures of a task, with the answers that the run recorded at every point."""

import base64
from collections.abc import Sequence
from pathlib import Path

from hf_paint.report.contents import Picture
from hf_paint.report.reading import Recorded
from hf_paint.results.details import Answers, Details
from hf_paint.results.pictures import Picture as Stored, TaskPictures
from hf_paint.results.run_files import EXAMPLES


DIGITS = 5
"""Decimals of a probability; it is recorded in steps of 1 / 65535."""


def pictures_of(
    recorded: Recorded, stored: TaskPictures, names: Sequence[str], details: Sequence[Details | None]
) -> list[Picture]:
    """Return the pictures of a task; one whose file was removed is left out.

    Args:
        recorded: The run.
        stored: What is known of the pictures.
        names: Class names in the order of the logits; unused for a picture with candidates of its own.
        details: Details of each point, on the split of the pictures.
    """
    folder = recorded.files.path / EXAMPLES
    answers = [None if found is None else found.answers for found in details]
    return [
        _picture(folder / picture["file"], picture, names, answers)
        for picture in stored["pictures"]
        if (folder / picture["file"]).is_file()
    ]


def _picture(path: Path, stored: Stored, names: Sequence[str], answers: Sequence[Answers | None]) -> Picture:
    candidates = names if stored["candidates"] is None else stored["candidates"]
    found = [None if at_point is None else at_point.of(stored["index"]) for at_point in answers]
    return Picture(
        src=f"data:image/jpeg;base64,{base64.b64encode(path.read_bytes()).decode('ascii')}",
        index=stored["index"],
        labels=[candidates[label] for label in stored["labels"]],
        written=None if stored["written"] is None else candidates[stored["written"]],
        question=stored["question"],
        answers=[None if best is None else [(candidates[i], round(p, DIGITS)) for i, p in best] for best in found],
        correct=[None if best is None else best[0][0] in stored["labels"] for best in found],
    )
