"""Labels: match the class names in the data set to the class names of the task."""

from collections.abc import Sequence

from datasets import ClassLabel, Dataset, IterableDataset

from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


ClassIds = dict[object, int]
"""Label in the data set -> class index. For string labels, normalised forms are also keys."""


def read_classes(task: Task, rows: Dataset | IterableDataset) -> tuple[tuple[str, ...], ClassIds]:
    """Return the class names of a task and the class index of each label. Both are empty for multiple choice.

    Raises:
        InputError: If neither the task nor the data set names the classes, or their names do not match.
    """
    if not isinstance(task, LabelledTask):
        return (), {}
    feature = (rows.features or {}).get(task.label_column)
    if isinstance(feature, ClassLabel):
        class_names, class_ids = task.class_names or tuple(feature.names), match_class_names(task, feature.names)
        if isinstance(task, TypographicTask):  # the words are strings, even if the labels are not
            class_ids = _name_ids(task.label_names or class_names) | class_ids
    elif task.class_names is not None:
        class_names, class_ids = task.class_names, _listed_ids(task, task.class_names, feature)
    elif isinstance(task, TypographicTask):
        class_names = tuple(sorted({*rows.unique(task.label_column), *rows.unique(task.text_column)}))
        class_ids = _name_ids(class_names)
    else:
        raise InputError(
            f"The column '{task.label_column}' of '{task.dataset}' has no class names. List them as `class_names` of "
            f"task '{task.name}'."
        )
    task.check_classes(class_names)
    return class_names, class_ids


def _listed_ids(task: LabelledTask, class_names: Sequence[str], feature: object) -> ClassIds:
    """Return the class index of each label if labels are either class names or class indices."""
    if getattr(feature, "dtype", None) in ("string", "large_string"):
        return _name_ids(task.label_names or class_names)
    return {index: index for index in range(len(class_names))}


def match_class_names(task: LabelledTask, label_names: Sequence[str]) -> ClassIds:
    """Match the class names in the data set to the class names of the task.

    Names match if they are equal. They also match if they differ only in case, spaces and punctuation, as long as the
    match is unique. The order of the names is irrelevant.

    Returns:
        Label index in the data set -> class index of the task.

    Raises:
        InputError: If the numbers of classes differ, or a name has no unique match.
    """
    expected = task.label_names or task.class_names or tuple(label_names)
    if len(expected) != len(label_names):
        raise InputError(
            f"Task '{task.name}' lists {len(expected)} classes but '{task.dataset}' has {len(label_names)}. List all "
            "of them as `class_names`; use `only_classes` to select some of them."
        )
    ids = _name_ids(expected)
    matches = [ids.get(name, ids.get(normalise(name))) for name in label_names]
    unmatched = [
        name for name, index in zip(label_names, matches, strict=True) if index is None or matches.count(index) > 1
    ]
    if unmatched:
        raise InputError(
            f"{len(unmatched)} of the {len(label_names)} classes of '{task.dataset}' have no matching class name in "
            f"task '{task.name}', for instance '{unmatched[0]}'. List the data set's names as `label_names`, in the "
            "order of `class_names`."
        )
    return {label: index for label, index in enumerate(matches) if index is not None}


def _name_ids(names: Sequence[str]) -> ClassIds:
    """Return name -> index, for exact names and, if unambiguous, their normalised forms."""
    short_names = [normalise(name) for name in names]
    ids: ClassIds = {
        short: index for index, short in enumerate(short_names) if short and short_names.count(short) == 1
    }
    return ids | {name: index for index, name in enumerate(names)}


def normalise(name: str) -> str:
    """Return a name in lower case, without spaces and punctuation."""
    return "".join(character for character in name.casefold() if character.isalnum())
