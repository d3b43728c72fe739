"""Images that cannot be read: all of them are named before training starts, or their rows are skipped."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from hf_paint.data.scans import find_problems
from hf_paint.data.stored_images import stored_name, without_decoding
from hf_paint.errors import InputError, one_line, warn_once
from hf_paint.fingerprints import fingerprint_values
from hf_paint.tasks.data_files import MEMORY
from hf_paint.tasks.task import Task


if TYPE_CHECKING:
    from hf_paint.data.splits import Split

Made = TypeVar("Made")
NUM_SHOWN = 10
"""Maximum number of images named in an error; a warning of skipped images names three."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """An image that cannot be read.

    Attributes:
        task: Name of the task.
        split: `train`, `validation` or `test`.
        row: Row of the split.
        path: Path of a local file, the name that the data set stores for the image, or an empty string.
        reason: Why it cannot be read.
        dataset: What the task reads, as a definition names it; an empty string if it is more than a name.
    """

    task: str
    split: str
    row: int
    path: str
    reason: str
    dataset: str = ""

    def __str__(self) -> str:
        place = f" ('{self.path}')" if self.path else ""
        return f"Image {self.row} of the {self.split} split of task '{self.task}' cannot be read{place}: {self.reason}"


class UnreadableImagesError(InputError):
    """Images that cannot be read.

    Attributes:
        images: All of them; the message names the first ten.
    """

    def __init__(self, images: Iterable[Unreadable]) -> None:
        self.images: tuple[Unreadable, ...] = tuple(dict.fromkeys(images))
        shown = [str(image).rstrip(".") for image in self.images[:NUM_SHOWN]]
        number = len(self.images)
        start = "" if number == 1 else f"{number} images cannot be read. "
        more = f"; and {number - NUM_SHOWN} more" if number > NUM_SHOWN else ""
        data = next((image.dataset for image in self.images), "") or "..."
        advice = f"or skip {'them' if number > 1 else 'it'} with `bad_rows: skip` in the task, as in "
        advice += f"'{{dataset: {data}, bad_rows: skip}}'{'; `hf-paint tasks` lists all of them' * (number > 1)}."
        what = "Replace or remove them," if number > 1 else "Replace or remove it,"
        super().__init__(f"{start}{'; '.join(shown)}{more}. {what} {advice}")


def _dataset_of(task: Task) -> str:
    """Return what a task reads if it is one folder, file or data set on the Hub, and otherwise an empty string."""
    files = [path for own in (task.data_files or {}).values() for path in ([own] if isinstance(own, str) else own)]
    if files or task.dataset == MEMORY:
        return files[0] if len(files) == 1 else ""
    return task.data_dir or task.dataset


def list_unreadable(split: "Split") -> list[Unreadable]:
    """Return the images of a split that cannot be read, without those that are skipped; none of a stream."""
    return [] if split.task.streaming else _describe(split, find_problems(split))


def refuse_unreadable(split: "Split") -> None:
    """Check that each image of a split can be read. Streams are not checked.

    Raises:
        UnreadableImagesError: If some cannot.
    """
    if images := list_unreadable(split):
        raise UnreadableImagesError(images)


def make_all(makers: Iterable[Callable[[], Made]]) -> list[Made]:
    """Call functions that read images, and name in one error what none of them could read.

    Raises:
        UnreadableImagesError: If any of them raises it, with the images of all.
    """
    made: list[Made] = []
    images: list[Unreadable] = []
    for make in makers:
        try:
            made.append(make())
        except UnreadableImagesError as error:
            images += error.images
    if images:
        raise UnreadableImagesError(images)
    return made


def skip_unreadable(split: "Split") -> "Split":
    """Return a split without the rows whose images cannot be read, if the task sets `bad_rows: skip`.

    The fingerprint of the split names the rows, so that a run is bound to them. A stream skips them as it is read.
    """
    if split.task.bad_rows != "skip" or split.task.streaming or not (problems := find_problems(split)):
        return split
    skipped = _describe(split, problems)
    report_skipped(skipped, len(split.rows))
    good = np.setdiff1d(np.arange(len(split.rows)), list(problems))
    fingerprint = fingerprint_values(split.fingerprint, "without", sorted(problems))
    return replace(split.select(good), skipped=tuple(skipped), fingerprint=fingerprint)


def report_skipped(images: Sequence[Unreadable], num_rows: int) -> None:
    """Say in one line how many images of a split are skipped, and name three of them."""
    if images:
        names = "; ".join(f"{image.path or f'row {image.row}'}: {image.reason}" for image in images[:3])
        warn_once(
            f"{len(images)} of the {num_rows} {images[0].split} images of task '{images[0].task}' cannot be read and "
            f"are skipped: {names}{'; ...' * (len(images) > 3)}"
        )


def _describe(split: "Split", problems: Mapping[int, str]) -> list[Unreadable]:
    column = split.task.image_column
    values = without_decoding(split.rows.select_columns([column]), column)
    return [describe(split, row, values[row][column], problems[row]) for row in sorted(problems)]


def describe(split: "Split", row: int, value: object, reason: BaseException | str) -> Unreadable:
    """Describe an image that cannot be read, given the value that is stored for it."""
    path = stored_name(value)
    reason = one_line(reason).replace(f" '{path}'", "").rstrip(":")  # Pillow repeats the path
    dataset = _dataset_of(split.task)
    return Unreadable(task=split.task.name, split=split.name, row=row, path=path, reason=reason, dataset=dataset)
