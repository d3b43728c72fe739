"""Labels: match the class names in the data set to the class names of the task."""

from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property

from datasets import ClassLabel, Dataset, IterableDataset

from hf_paint.data.label_lists import label_type
from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.counting import CountingTask, count_values
from hf_paint.tasks.names import number_of, short_form, spelled
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


class ClassIds(dict[object, int]):
    """Label in the data set -> class index; of names, also their short forms, if only one class has them."""

    def find(self, label: object) -> int | None:
        """Return the class index of a label, or None if it is no class, or could be several.

        A name is a class if it is spelled like its name, or if no other class has the same short form. Truth values
        are the names `true` and `false`.
        """
        if isinstance(label, bool):
            index = self.find(str(label))
            return self.get(label) if index is None else index  # False and True are also the numbers 0 and 1
        if not isinstance(label, str):
            return self.get(label)
        index = self.get(spelled(label))
        return self._short_forms.get(short_form(label)) if index is None else index

    @cached_property
    def _short_forms(self) -> dict[str, int | None]:
        short_forms: dict[str, int | None] = {"": None}
        for name, index in self.items():
            if isinstance(name, str):
                short = short_form(name)
                short_forms[short] = index if short_forms.get(short, index) == index else None
        return short_forms


def read_classes(task: Task, rows: Dataset | IterableDataset) -> tuple[tuple[str, ...], ClassIds]:
    """Return the class names of a task and the class index of each label. Both are empty for multiple choice.

    Raises:
        InputError: If neither the task nor the data set names the classes, or their names do not match.
    """
    if not isinstance(task, LabelledTask):
        return (), ClassIds()
    feature = label_type(task, rows)
    if isinstance(feature, ClassLabel):
        class_names = task.class_names or tuple(map(spelled, feature.names))
        class_ids = match_class_names(task, feature.names)
        if isinstance(task, TypographicTask):  # the words are strings, even if the labels are not
            class_ids = ClassIds(name_ids(task.label_names or class_names) | class_ids)
    elif task.class_names is not None:
        class_names, class_ids = task.class_names, _listed_ids(task, task.class_names, rows, feature)
    elif isinstance(task, TypographicTask):
        class_names = tuple(sorted({*_words(task, rows, task.label_column), *_words(task, rows, task.text_column)}))
        class_ids = name_ids(class_names)
    else:
        raise InputError(
            f"The column '{task.label_column}' of '{task.dataset}' has no class names. List them as `class_names` of "
            f"task '{task.name}'."
        )
    task.check_classes(class_names)
    return class_names, class_ids


def match_class_names(task: LabelledTask, label_names: Sequence[str]) -> ClassIds:
    """Match the class names in the data set to the class names of the task.

    Names match if they are equal. They also match if they differ only in case, spaces and punctuation, as long as the
    match is unique. The order of the names is irrelevant, and the data set may lack some of the classes.

    Returns:
        Label index in the data set -> class index of the task.

    Raises:
        InputError: If the data set has more classes than the task, or a name has no unique match.
    """
    expected = task.label_names or task.class_names or tuple(label_names)
    if len(expected) < len(label_names):
        raise InputError(
            f"Task '{task.name}' lists {len(expected)} classes but '{task.dataset}' has {len(label_names)}. List all "
            "of them as `class_names`; use `only_classes` to select some of them."
        )
    ids = name_ids(expected)
    matches = [ids.find(name) for name in label_names]
    counts = Counter(matches)
    unmatched = [name for name, index in zip(label_names, matches, strict=True) if index is None or counts[index] > 1]
    if unmatched:
        raise InputError(
            f"{len(unmatched)} of the {len(label_names)} classes of '{task.dataset}' have no matching class name in "
            f"task '{task.name}', for instance '{unmatched[0]}'. List the data set's names as `label_names`, in the "
            "order of `class_names`."
        )
    return ClassIds({label: index for label, index in enumerate(matches) if index is not None})


def _listed_ids(
    task: LabelledTask, class_names: Sequence[str], rows: Dataset | IterableDataset, feature: object
) -> ClassIds:
    """Return the class index of each label if labels are class names, or numbers."""
    names = task.label_names or class_names
    numbers = [number_of(name) for name in names]
    dtype = getattr(feature, "dtype", None)
    if dtype in ("string", "large_string"):
        return name_ids(names)
    if dtype == "bool":
        return ClassIds(name_ids(names) | _named_ids(numbers))
    if isinstance(task, CountingTask) and task.label_names is None:
        return _count_ids(task, class_names, rows)
    return _number_ids(numbers)


def _number_ids(numbers: Sequence[int | float | None]) -> ClassIds:
    """Return the class index of each label that is a number, given the numbers that are names of classes.

    A number is the class that it names. If no name contradicts it, numbers are positions in the list of names.
    """
    if all(number in (None, index) for index, number in enumerate(numbers)):
        return ClassIds({index: index for index in range(len(numbers))})
    return _named_ids(numbers)


def _named_ids(numbers: Sequence[int | float | None]) -> ClassIds:
    """Return number -> class index, for numbers that name one class."""
    counts = Counter(numbers)
    return ClassIds({number: i for i, number in enumerate(numbers) if number is not None and counts[number] == 1})


def _count_ids(task: CountingTask, class_names: Sequence[str], rows: Dataset | IterableDataset) -> ClassIds:
    """Return the class index of each label of a counting task that is a number: a count or, of words, a position."""
    counts = _number_ids([int(count) for count in count_values(class_names)])
    positions = _number_ids([number_of(name) for name in class_names])
    if counts == positions or any(number_of(name) is not None for name in class_names):
        return counts
    labels = set() if isinstance(rows, IterableDataset) else {*rows.unique(task.label_column)} - {None}
    if not labels <= counts.keys():
        return positions
    if not labels <= positions.keys():
        return counts
    raise InputError(
        f"The integers in '{task.label_column}' of task '{task.name}' could be counts or positions in `class_names`. "
        "List the integer of each class as `label_names`, in the order of `class_names`."
    )


def name_ids(names: Sequence[str]) -> ClassIds:
    """Return name -> index, for exact names and, if unambiguous, their short forms."""
    short_forms = [short_form(name) for name in names]
    counts = Counter(short_forms)
    ids = {short: index for index, short in enumerate(short_forms) if short and counts[short] == 1}
    return ClassIds(ids | {spelled(name): index for index, name in enumerate(names)})


def unite_names(lists: Iterable[Sequence[str]]) -> list[str]:
    """Return the class names in several lists, each once, in order of first occurrence.

    The names of two lists are matched as those of a data set are matched with those of a task; the first spelling is
    returned.
    """
    united: list[str] = []
    spellings = [[spelled(name) for name in names] for names in lists]
    for names in spellings:
        ids = name_ids(united)
        matches = [ids.find(name) for name in names]
        counts, known = Counter(matches), set(united)
        united += [
            name
            for name, match in zip(names, matches, strict=True)
            if name not in known and (match is None or counts[match] > 1)
        ]
    while missing := _unmatched(spellings, name_ids(united)):
        united += missing  # names that only one class matched, until another was added
    return united


def _unmatched(spellings: Iterable[Sequence[str]], ids: ClassIds) -> list[str]:
    """Return the names that match no class, each once."""
    return list(dict.fromkeys(name for names in spellings for name in names if ids.find(name) is None))


def _words(task: TypographicTask, rows: Dataset, column: str) -> list[str]:
    """Return the distinct words in a column of a typographic task that lists no classes."""
    feature = rows.features[column]
    words = feature.names if isinstance(feature, ClassLabel) else rows.unique(column)
    if not all(isinstance(word, str) for word in words):
        raise InputError(
            f"The column '{column}' of '{task.dataset}' must hold words, got {feature} with the values "
            f"{', '.join(map(repr, words[:3]))}. List the classes as `class_names` of task '{task.name}'."
        )
    return [spelled(word) for word in words]
