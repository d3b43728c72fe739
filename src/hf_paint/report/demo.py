"""What the demo shows and does: one's own pictures and words, classified before and after patching."""

from collections.abc import Callable
from functools import lru_cache
from html import escape

import torch
from PIL import Image, UnidentifiedImageError

from hf_paint.errors import InputError, one_line
from hf_paint.models.task_file import TaskClasses
from hf_paint.report.comparison import compare, comparison_html, split_words
from hf_paint.report.live import TEMPLATE, Pixels
from hf_paint.report.live_tower import multiplies_faster
from hf_paint.report.subject import Subject
from hf_paint.report.tried_pictures import TriedPicture, tried_pictures
from hf_paint.results.alphas import Alpha, Coefficients
from hf_paint.results.records import Role


MOST_OFFERED = 20
"""Candidates that are offered of a multiple-choice task, which has thousands, each for its own question."""
WORDS = ("a cat", "a dog", "something else")
"""Words to start with if nothing is known of the tasks."""


class Demo:
    """What the page shows and does, without its widgets.

    Args:
        subject: Patch to try out.

    Raises:
        InputError: If the pictures of the run are damaged.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.tasks: dict[str, TaskClasses] = {task.name: task for task in subject.tasks}
        self.pictures: list[TriedPicture] = [] if subject.run is None else tried_pictures(subject.run, self.tasks)
        self._positions: dict[str, tuple[float, ...]] = {}  # where the sliders of each visitor were last
        self.open: Callable[[str], Pixels] = lru_cache(16)(self._open)
        self._right = {
            (self.open(str(picture.path)).digest, picture.words, picture.templates): picture.right
            for picture in self.pictures
        }

    def offered(self, task: str | None = None) -> tuple[str, str]:
        """Return the words and prompts of a task as texts, one per line; by default, those of the first task."""
        name = next(iter(self.tasks), None) if task is None else task
        if name is None:
            return "\n".join(WORDS), TEMPLATE
        listed = self.tasks[name]
        names = listed.class_names[:MOST_OFFERED] if listed.is_multiple_choice else listed.class_names
        return "\n".join(names), "\n".join(listed.templates)

    def picked(self, index: int) -> tuple[str, str, str]:
        """Return the path, the words and the prompts of one of the run's pictures."""
        picture = self.pictures[index]
        return str(picture.path), "\n".join(picture.words), "\n".join(picture.templates)

    def preview(self, visitor: str, path: str | None, words: str, templates: str, *values: float) -> str:
        """Return what `answer` does, at once but roughly where bfloat16 is much faster than float32."""
        self._positions[visitor] = values
        return self.answer(path, words, templates, *values, rough=multiplies_faster(torch.bfloat16))

    def rest(self, visitor: str, path: str | None, words: str, templates: str, *values: float) -> str | None:
        """Return `answer`, or None if the visitor has moved a slider on since, and looks at another preview."""
        html = self.answer(path, words, templates, *values)
        return html if self._positions.get(visitor) == values else None

    def answer(self, path: str | None, words: str, templates: str, *values: float, rough: bool = False) -> str:
        """Return the comparison as HTML, or what is missing.

        Args:
            path: Path to the picture; None if there is none yet.
            words: Candidates (see `split_words`).
            templates: Prompts, one per line.
            values: Positions of the sliders.
            rough: Take less time after patching, see `LivePatch.probabilities`.
        """
        if path is None:
            return '<p class="verdict">Upload, paste or take a picture, or choose one below.</p>'
        alpha = self.subject.alpha(values)
        names = tuple(split_words(words))
        prompts = tuple(line.strip() for line in templates.splitlines() if line.strip())
        try:
            pixels = self.open(path)
            right = self._right.get((pixels.digest, names, prompts), frozenset())  # one picture has many questions
            answers = compare(self.subject, pixels, names, prompts, alpha, right, rough=rough)
        except InputError as error:
            return f'<p class="verdict">{escape(str(error))}</p>'
        return comparison_html(answers, alpha, is_patched=bool(self.subject.knobs))

    def accuracies(self) -> list[tuple[float, float, str]]:
        """Return the measured curve as (alpha, accuracy in percent, role); empty if it has more than one dimension."""
        curve = self.subject.curve
        if curve is None or len(self.subject.knobs) != 1:
            return []
        split = curve.reported_split
        roles: list[Role] = [role for role in ("patching", "supported") if split in curve.splits(role)]
        return [
            (self._position(alpha), 100 * float(curve.mean_accuracy(alpha, role, split)), role)
            for alpha in curve.points(split)
            for role in roles
        ]

    def _position(self, alpha: Alpha) -> float:
        """Return where a measured point is on the only slider: at a number of steps, a coefficient or an alpha."""
        if not isinstance(alpha, Coefficients):
            return alpha
        [knob] = self.subject.knobs
        return float(len(alpha)) if knob.task is None else alpha[knob.task]

    def _open(self, path: str) -> Pixels:
        try:
            with Image.open(path) as image:
                return self.subject.live.pixels(image)
        except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
            raise InputError(f"The picture cannot be read: {one_line(error)}") from error
