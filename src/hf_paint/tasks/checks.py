"""Validation of task fields."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hf_paint.errors import InputError
from hf_paint.tasks.names import spelled
from hf_paint.tasks.subsets import AUTO, DRAWN, GUESS


if TYPE_CHECKING:
    from hf_paint.tasks.classification import ClassificationTask
    from hf_paint.tasks.task import Task


def check_task(task: "Task") -> None:
    """Check the fields that all kinds of tasks have in common.

    Raises:
        InputError: If the name, a template, `where`, `bad_rows` or a split is invalid.
    """
    if not re.fullmatch(r"[a-z0-9_-]+", task.name):
        raise InputError(f"The task name '{task.name}' may contain only lower-case letters, digits, '_' and '-'.")
    check_templates(task.templates, f" of task '{task.name}'")
    if not isinstance(task.where or {}, Mapping):
        raise InputError(
            f"`where` of task '{task.name}' must map columns to values, as in {{type: SCAM}}; got {task.where!r}."
        )
    if task.bad_rows not in ("refuse", "skip"):
        raise InputError(f"`bad_rows` of task '{task.name}' must be `refuse` or `skip`, got {task.bad_rows!r}.")
    _check_splits(task)


def check_templates(templates: Sequence[str], where: str = "") -> None:
    """Check that each prompt template has one place for the class name; `where` says whose templates they are.

    Raises:
        InputError: If a template has none, or several.
    """
    for template in templates:
        if template.count("{}") != 1:
            raise InputError(
                f"The template {template!r}{where} must contain exactly one {{}}, which is replaced by each class "
                "name."
            )


def _check_splits(task: "Task") -> None:
    splits = task.splits
    for name, split in (("train", splits.train), ("validation", splits.validation)):
        if split == splits.test and split in splits.named():
            raise InputError(
                f"Task '{task.name}' uses the split '{split}' for both {name} and test, so test accuracy would be "
                f"measured on images that were used in the run. Set `{name}` to another split, or to null."
            )
    if splits.stratified and (splits.train in (None, *DRAWN) or AUTO in (splits.validation, splits.test)):
        raise InputError(
            f"Task '{task.name}' draws `stratified` splits from its train split, so `train` must be a split of the "
            f"data set, and no other split can be `auto`; got train: {splits.train}, validation: {splits.validation}, "
            f"test: {splits.test}. Set `validation: stratified`, or name a split."
        )
    if splits.stratified and task.streaming:
        raise InputError(
            f"Task '{task.name}' is streamed, so its classes are not known before its images are read, and no "
            "`stratified` split can be drawn. Name a split of the data set, or set it to null."
        )
    if GUESS in (splits.train, splits.validation, splits.test) and not task.guess:
        raise InputError(f"A split of task '{task.name}' is `guess`, which needs `guess: true`. Add it.")


def check_unlabelled(task: "ClassificationTask") -> None:
    """Check that the unlabelled splits of a task need no labels, and that no labelled split is read from their rows.

    Raises:
        InputError: If a split cannot be unlabelled, or a key needs the labels.
    """
    for name in task.unlabelled:
        if name not in ("train", "validation"):
            raise InputError(
                f"`unlabelled` of task '{task.name}' lists splits without labels, which can be train and validation; "
                f"got '{name}'. Test images need labels: without any, set `test: null` in `splits`."
            )
    if task.class_names is None:
        raise InputError(f"Task '{task.name}' has `unlabelled` splits, so it must list its `class_names`.")
    for key in ("streaming", "attack", "class_split", "only_classes"):
        if getattr(task, key):
            raise InputError(f"`{key}` of task '{task.name}' cannot be used with `unlabelled`. Remove one of the two.")
    labelled = [name for name in ("train", "validation", "test") if name not in task.unlabelled]
    shared = [name for name in labelled if task.splits.source_of(name) in task.unlabelled_sources]
    if shared or task.splits.stratified:
        what = f"`{shared[0]}` is read from the same rows" if shared else "`stratified` splits are drawn by class"
        raise InputError(
            f"Task '{task.name}' has `unlabelled: [{', '.join(task.unlabelled)}]`, but {what}. Name other splits in "
            "`splits`, or list all that share rows in `unlabelled`."
        )


def refuse_duplicates(task_name: str, names: Sequence[str]) -> None:
    """Check that no class name is listed twice."""
    spellings = [spelled(name) for name in names]
    duplicates = sorted(name for name, count in Counter(spellings).items() if count > 1)
    if duplicates:
        raise InputError(f"Task '{task_name}' lists the class name '{duplicates[0]}' twice. Remove one of the two.")
