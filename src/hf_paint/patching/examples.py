"""Pictures that a run changes: chosen by the recorded answers, saved in `examples/`, and plotted for the card."""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from hf_paint.evaluation.examples import Example, plot_examples
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.files import write_json
from hf_paint.models.task_file import read_tasks
from hf_paint.patching.run import PatchRun
from hf_paint.results.alphas import Alpha, Coefficients, alpha_from_json, alpha_phrase, alpha_to_json
from hf_paint.results.changed_images import Changes
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.details import Answers
from hf_paint.results.details_log import RunDetails
from hf_paint.results.pictures import PICTURES, Picture, TaskPictures, read_pictures
from hf_paint.results.records import Role
from hf_paint.results.run_files import example_plot
from hf_paint.results.run_folder import RunFolder


MAX_PICTURES = 60
"""Maximum number of pictures of a run, which its tasks share; each has at least one."""
MAX_SIZE = 224
"""Maximum width and height of a saved picture in pixels."""
QUALITY = 85
"""Quality of the JPEG files: about 10 kB for a photo."""


def save_examples(run: PatchRun, curve: AlphaCurve, alpha: Alpha) -> dict[str, str]:
    """Save a few pictures of each task, except shift tasks, and plot them with the answers before and after patching.

    No model is run, as the sweep has recorded the answers.

    Args:
        run: Patching run.
        curve: Results of the run.
        alpha: Chosen alpha.

    Returns:
        Mapping from task name to a description of how its pictures were chosen; empty if this process does not write.
    """
    folder = run.folder
    if not folder.write:
        return {}
    if not run.options.num_examples:
        shutil.rmtree(folder.examples, ignore_errors=True)
        _remove_plots(folder)
        return {}
    answers = _RecordedAnswers.of_run(folder, curve)
    candidates = [_Candidates.of(task, answers, alpha) for task in run.tasks if task.role != "shift"]
    sources = [source for source in candidates if source is not None]
    count = min(run.options.num_examples, max(1, MAX_PICTURES // max(1, len(sources))))

    def save(path: Path) -> None:
        saved = {source.task.task.name: source.save(path, alpha, count) for source in sources}
        write_json(path / PICTURES, saved)

    if sources:
        folder.save_folder(folder.examples, save)
    return plot_saved_examples(folder, curve, alpha)


def plot_saved_examples(folder: RunFolder, curve: AlphaCurve, alpha: Alpha) -> dict[str, str]:
    """Plot the pictures in a run folder with the answers at alpha 0 and at another alpha.

    A run of an earlier version has plots but no such pictures. Its plots are kept if they show this alpha, and removed
    otherwise.

    Returns:
        Mapping from task name to a description of how its pictures were chosen.
    """
    saved = read_pictures(folder.path)
    selection = folder.load_selection()
    if not saved and selection is not None and alpha_from_json(selection["alpha"]) == alpha:
        captions: dict[str, str] = (folder.load_card_facts() or {}).get("examples", {})
        return captions
    _remove_plots(folder)
    answers, captions = _RecordedAnswers.of_run(folder, curve), {}
    class_names = {task.name: task.class_names for task in read_tasks(folder.path)} if saved else {}
    for name, task in saved.items():
        before, after = (answers.at(point, task["role"], name, task["split"]) for point in (0.0, alpha))
        if before is None or after is None:
            continue
        there = [picture for picture in task["pictures"] if (folder.examples / picture["file"]).is_file()]
        if not there:
            continue
        examples = [_example(folder, picture, class_names[name], before, after) for picture in there]
        captions[name] = _caption(task, alpha)
        path, title = folder.path / example_plot(name), f"{name} ({task['role']})"
        plot_examples(examples, path, title=title, patched=f"patched ({alpha_phrase(alpha)})", caption=captions[name])
    return captions


def _remove_plots(folder: RunFolder) -> None:
    for plot in folder.example_plots:
        plot.unlink()


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _RecordedAnswers:
    """The answers that a run has recorded."""

    curve: AlphaCurve
    details: RunDetails

    @classmethod
    def of_run(cls, folder: RunFolder, curve: AlphaCurve) -> Self:
        return cls(curve=curve, details=RunDetails.of_run(folder.path))

    def at(self, alpha: Alpha, role: Role, task: str, split: str) -> Answers | None:
        """Return the answers at an alpha, or None if they were not recorded."""
        result = self.curve.get(alpha, role, task, split)
        details = None if result is None else self.details.of(result)
        return None if details is None else details.answers


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Candidates:
    """Pictures of a task to choose from.

    Attributes:
        task: Task with its pictures.
        indices: Indices in the reported split of the task, shape (num_images,).
        changes: Which of them are classified correctly by which model.
    """

    task: PreparedTask
    indices: NDArray[np.int64]
    changes: Changes

    @classmethod
    def of(cls, task: PreparedTask, answers: _RecordedAnswers, alpha: Alpha) -> Self | None:
        """Return the pictures whose answers were recorded before and after patching, or None if there are none."""
        name, split = task.task.name, task.reported_split
        points = (0.0, alpha, 1.0, Coefficients({name: 1.0}))
        before, after, *fine_tuned = (answers.at(point, task.role, name, split) for point in points)
        if before is None or after is None:
            return None
        labels = _labels(task, split)[before.images]
        right = [_are_right(found, labels) for found in (before, after, *filter(None, fine_tuned))]
        changes = Changes(before=right[0], after=right[1], fine_tuned=right[2] if len(right) > 2 else None)
        return cls(task=task, indices=before.images, changes=changes)

    def save(self, folder: Path, alpha: Alpha, count: int) -> TaskPictures:
        """Save a number of pictures as JPEG files in a folder with the name of the task."""
        split, chosen = self.task.reported_split, self.changes.choose(count=count)
        total = len(self.task.images[split].counted)
        drawn = "" if len(self.indices) == total else f"{len(self.indices):,} of the "
        (folder / self.task.task.name).mkdir()
        return {
            "role": self.task.role,
            "split": split,
            "alpha": alpha_to_json(alpha),
            "note": self.changes.describe(chosen, images=f"{drawn}{total:,} {split} images"),
            "pictures": [_save_picture(folder, self.task, index) for index in self.indices[chosen].tolist()],
        }


def _labels(task: PreparedTask, split: str) -> NDArray[np.int64]:
    """Return the right candidates of each image, shape (num_images, max_labels), padded with -1."""
    images = task.images[split]
    labels: NDArray[np.int64] = images.labels.reshape(len(images), -1).numpy()
    return labels if images.choices is None else labels[:, :1]  # the others are the candidates


def _are_right(answers: Answers, labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = (answers.candidates[:, :1] == labels).any(axis=1)
    return right


def _save_picture(folder: Path, task: PreparedTask, index: int) -> Picture:
    """Save an image of the reported split as the model sees it."""
    split, file = task.reported_split, f"{task.task.name}/{index}.jpg"
    images = task.images[split]
    image = Image.fromarray(images.pixels[index].transpose(1, 2, 0))
    image.thumbnail((MAX_SIZE, MAX_SIZE))
    image.save(folder / file, quality=QUALITY)
    return {
        "file": file,
        "index": index,
        "labels": [label for label in _labels(task, split)[index].tolist() if label >= 0],
        "written": None if images.written is None else int(images.written[index]),
        "question": None if images.choices is None else images.choices.questions[index],
        "candidates": None if images.choices is None else list(images.choices.candidates[index]),
    }


def _example(
    folder: RunFolder, picture: Picture, class_names: Sequence[str], before: Answers, after: Answers
) -> Example:
    with Image.open(folder.examples / picture["file"]) as image:
        pixels = np.asarray(image.convert("RGB"))
    return Example(
        pixels=pixels,
        candidates=picture["candidates"] or class_names,
        labels=picture["labels"],
        written=picture["written"],
        question=picture["question"],
        before=before.of(picture["index"]) or [],
        after=after.of(picture["index"]) or [],
    )


def _caption(task: TaskPictures, alpha: Alpha) -> str:
    """Return how pictures were chosen, and for which alpha if it is not the one that is shown."""
    chosen_for = alpha_from_json(task["alpha"])
    return task["note"] if chosen_for == alpha else f"Chosen for {alpha_phrase(chosen_for)}: {task['note']}"
