"""The pictures of a run that its demo offers, each with its candidates and the right answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hf_paint.documents.reading import Json
from hf_paint.models.task_file import TaskClasses
from hf_paint.results.pictures import Picture, read_pictures
from hf_paint.results.records import ROLES
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.registry import get_tasks


@dataclass(frozen=True, slots=True, kw_only=True)
class TriedPicture:
    """A picture in the `examples` folder of a run.

    Attributes:
        path: JPEG file in the run folder.
        caption: Task, and the right answer.
        words: Candidates.
        templates: Prompts, each with one `{}`.
        right: The right candidates.
    """

    path: Path
    caption: str
    words: tuple[str, ...]
    templates: tuple[str, ...]
    right: frozenset[str]


def tried_pictures(run: RunFolder, tasks: Mapping[str, TaskClasses]) -> list[TriedPicture]:
    """Return the pictures in the `examples` folder of a run whose files are there.

    Args:
        run: Run folder.
        tasks: Name -> classes and prompts of a task.

    Raises:
        InputError: If `examples/examples.json` is damaged.
    """
    questions = _multiple_choice(run.load_recipe())
    return [
        _tried(run.examples / picture["file"], name, picture, tasks[name], questions.get(name))
        for name, saved in read_pictures(run.path).items()
        for picture in saved["pictures"]
        if name in tasks and (run.examples / picture["file"]).is_file()
    ]


def _tried(
    path: Path, name: str, picture: Picture, task: TaskClasses, questions: MultipleChoiceTask | None
) -> TriedPicture:
    words, templates = task.class_names, task.templates
    asked, choices = picture["question"], picture["candidates"]
    if choices is not None:
        words, templates = tuple(choices), ("{}",)
        if questions is not None and asked is not None:
            templates = (questions.text(asked.replace("{}", "..."), "{}"),)
    right = [words[label] for label in picture["labels"]]
    caption = f"{name}: {', '.join(right)}" if asked is None else f"{asked} {', '.join(right)}"
    return TriedPicture(path=path, caption=caption, words=words, templates=templates, right=frozenset(right))


def _multiple_choice(recipe: Json) -> dict[str, MultipleChoiceTask]:
    """Return the tasks of a recipe that ask questions, whose prompt the recipe has."""
    tasks = get_tasks([reference for role in ROLES for reference in recipe.get(f"{role}_tasks") or []])
    return {task.name: task for task in tasks if isinstance(task, MultipleChoiceTask)}
