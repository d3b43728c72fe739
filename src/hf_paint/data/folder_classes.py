"""The classes of pictures in folders: the class of a picture is the name of the folder that contains it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from unicodedata import normalize

from hf_paint.data.folder_files import File, count_common
from hf_paint.data.folder_splits import SPLIT_OF, show
from hf_paint.data.labels import unite_names
from hf_paint.errors import InputError
from hf_paint.tasks.task import Task


Splits = Mapping[str, Sequence[File]]


def class_of(picture: File) -> str:
    """Return the class of a picture."""
    return normalize("NFC", picture.folders[-1])  # some file systems decompose accented letters


def find_classes(task: Task, splits: Splits, *, are_listed: bool) -> list[str]:
    """Return the names of the classes in all splits, sorted. Spellings of one name in several splits are one class.

    Args:
        task: The task.
        splits: Split -> its pictures, with the names of the folders below the split.
        are_listed: Whether `data_files` lists the files of each split, so that it may join folders of the same name.

    Raises:
        InputError: If the folders do not tell the class of each picture, or there are not two classes.
    """
    labelled = {name: pictures for name, pictures in splits.items() if has_classes(pictures)}
    for name, pictures in labelled.items():
        _check_depth(task, name, pictures)
        _check_names(task, name, pictures, are_listed=are_listed)
    classes = {name: {class_of(picture) for picture in pictures} for name, pictures in labelled.items()}
    names = sorted(unite_names(map(sorted, classes.values())))
    if not labelled or all(name.lower() in SPLIT_OF for name in names):
        raise InputError(
            f"The pictures of task '{task.name}' are in no class folders, only in {_show_folders(splits)}. Put the "
            "pictures of each class into a folder with its name, or list the labels in a file metadata.csv with the "
            f"columns file_name and {task.label_columns().get('label_column', 'label')}."
        )
    if all(len(own) == 1 for own in classes.values()):
        where = "one class folder per split" if len(classes) > 1 else "one class folder"
        raise InputError(
            f"The pictures of task '{task.name}' are in {where}, {_show_folders(splits)}. A task needs at least two "
            "classes: add their folders."
        )
    return names


def has_classes(pictures: Sequence[File]) -> bool:
    """Return whether any picture of a split is in a folder."""
    return any(picture.folders for picture in pictures)


def _check_depth(task: Task, split: str, pictures: Sequence[File]) -> None:
    """Check that all pictures of a split are equally deep, so that it is clear which folders are classes."""
    first = {len(picture.folders): picture for picture in reversed(pictures)}
    if len(first) > 1:
        shallow, deep = first[min(first)].place, first[max(first)].place
        number = sum(len(picture.folders) == min(first) for picture in pictures)
        raise InputError(
            f"The {split} pictures of task '{task.name}' are at different depths: {number} like '{shallow}' and "
            f"{len(pictures) - number} deeper ones like '{deep}'. Put each picture into the folder of its class, and "
            "all class folders at the same depth."
        )


def _check_names(task: Task, split: str, pictures: Sequence[File], *, are_listed: bool) -> None:
    """Check that no folder on the way is a split, and that no two class folders have the same name."""
    paths = {picture.folders: picture for picture in pictures}
    start = count_common(paths)
    inner = sorted("/".join(path) for path in paths if any(part.lower() in SPLIT_OF for part in path[start:-1]))
    if inner:
        raise InputError(
            f"The {split} pictures of task '{task.name}' are in folders that contain the name of a split: "
            f"{show(inner)}. Put the split folders at the top, as in train/cat and test/cat."
        )
    parents: dict[str, list[str]] = {}
    for path, picture in sorted(paths.items()):
        parents.setdefault(class_of(picture), []).append("/".join(path))
    twice = [places for places in parents.values() if len(places) > 1]
    if twice and not are_listed:
        raise InputError(
            f"The class folders {show(twice[0])} of the split '{split}' of task '{task.name}' have the same name. "
            "Each class must have a single folder: join or rename them."
        )


def _show_folders(splits: Splits) -> str:
    folders = {Path(picture.path).parent.name for pictures in splits.values() for picture in pictures}
    return show(sorted(folders))
