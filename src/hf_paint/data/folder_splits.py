"""Decide which pictures of a folder belong to which split, from the names of the folders alone."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

from datasets.data_files import NON_WORDS_CHARS

from hf_paint.data.folder_files import File
from hf_paint.data.split_names import split_names
from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.data_files import SPLIT_WORDS
from hf_paint.tasks.task import Task


SPLIT_OF: dict[str, str] = {word: split for split, words in SPLIT_WORDS.items() for word in words}
"""Name of a split folder, for instance `val` -> usual name of the split, for instance `validation`."""
ONLY_SPLIT = "train"
"""Name of the split of a folder without split folders."""
_CONTAINS_WORD = re.compile(
    rf"(?:.*[{NON_WORDS_CHARS}])?({'|'.join(SPLIT_OF)})(?:[{NON_WORDS_CHARS}].*)?", re.IGNORECASE
)
Item = TypeVar("Item")


def find_splits(task: Task, pictures: Sequence[File]) -> dict[str, Sequence[File]]:
    """Sort pictures into splits: split folder -> its pictures, with the names of the folders below it.

    The top folders are splits if each is called `train`, `val`, `validation`, `test` or the like, in upper or lower
    case, or is named in the `splits` of the task. Folders of class folders are also splits if their names contain
    such a word, as `test_set` does. Otherwise, all pictures are in the only split, `train`: neither the name
    of a picture nor that of one class folder among others makes a split. A folder around all others is skipped.

    Pictures outside the split folders are left out if there are at least two splits with class folders, for instance
    `train/cat`, `test/cat` and `unlabelled/1.png`.

    Raises:
        InputError: If splits cannot be told from classes.
    """
    pictures = _skip_wrappers(task, pictures)
    tops = sorted({picture.folders[0] for picture in pictures if picture.folders})
    beside = [picture.place for picture in pictures if not picture.folders]
    exact = [top for top in tops if _is_split(task, top)]
    are_flat = all(len(picture.folders) < 2 for picture in pictures)
    listed = listed_classes(task) if are_flat else ()
    if exact and (len(exact) == len(tops) or not set(exact) <= set(listed)):
        found = [top for top in tops if top in exact or (not are_flat and _usual_name(top))]
        strangers = [f"{top}/" for top in tops if top not in found] + beside
        if strangers and (are_flat or len({_usual_name(top) for top in found}) < 2):
            raise InputError(
                f"The folder of task '{task.name}' contains the split folder '{exact[0]}' and, beside it, "
                f"{show(strangers)}. Move them into split folders or, if '{exact[0]}' is a class, list `class_names`."
            )
        return {top: below(pictures, top) for top in found}
    words = {_usual_name(top) for top in tops}
    if not exact and tops and None not in words and not beside and not set(tops) <= set(listed):
        if not are_flat:
            return {top: below(pictures, top) for top in tops}
        if len(words) > 1:
            raise InputError(
                f"The folders {show(tops)} of task '{task.name}' may be splits or classes. Put class folders into the "
                "split folders, or list the classes as `class_names`."
            )
    return {ONLY_SPLIT: pictures}


def add_usual_names(splits: Mapping[str, Sequence[Item]]) -> dict[str, list[Item]]:
    """Return what is in each split, by the names of its folders and by its usual name.

    A usual name stands for all folders that have it or a word for it as their name, for instance `val`; if there are
    none, for those that contain such a word, for instance `test_set`.
    """
    named = {folder: list(items) for folder, items in splits.items()}
    for usual in dict.fromkeys(SPLIT_OF.values()):
        exact = [folder for folder in splits if SPLIT_OF.get(folder.lower()) == usual]
        folders = exact or [folder for folder in splits if _usual_name(folder) == usual]
        if folders:
            named[usual] = [item for folder in folders for item in splits[folder]]
    return named


def below(pictures: Iterable[File], top: str) -> list[File]:
    """Return the pictures below one of the top folders."""
    return [replace(file, folders=file.folders[1:]) for file in pictures if file.folders[:1] == (top,)]


def listed_classes(task: Task) -> Collection[str]:
    """Return the class names of the data set that the task lists."""
    return (task.label_names or task.class_names or ()) if isinstance(task, LabelledTask) else ()


def show(names: Collection[str], limit: int = 5) -> str:
    """Return names in quotes, separated by commas, at most `limit` of them."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(f"'{name}'" for name in list(names)[:limit]) + more


def _is_split(task: Task, name: str) -> bool:
    return name.lower() in SPLIT_OF or any(name in split_names(source, {name}) for source in task.splits.named())


def _usual_name(top: str) -> str | None:
    """Return the split whose name, or a word for it, is the name of this folder or part of it."""
    match = _CONTAINS_WORD.fullmatch(top)
    return SPLIT_OF[match[1].lower()] if match else None


def _skip_wrappers(task: Task, pictures: Sequence[File]) -> Sequence[File]:
    """Remove each top folder that holds all other folders and does not name a split."""
    while len({picture.folders[:1] for picture in pictures}) == 1:
        top = "".join(pictures[0].folders[:1])
        if min(len(picture.folders) for picture in pictures) < 2 or _is_split(task, top) or _usual_name(top):
            break
        pictures = below(pictures, top)
    return pictures
