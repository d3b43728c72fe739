"""Find in the data what the definition of a task leaves open: splits, columns and class names."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial

from datasets import ClassLabel, Dataset, IterableDataset

from hf_paint.data.column_types import LISTS
from hf_paint.data.columns import is_text, name_columns, place_of
from hf_paint.data.folder_splits import SPLIT_OF
from hf_paint.data.label_lists import distinct_labels
from hf_paint.data.read_once import ReadOnce
from hf_paint.data.sources import Rows, check_columns, list_splits, load_rows
from hf_paint.errors import InputError, warn_once
from hf_paint.tasks.classification import LabelledTask
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.names import as_words, spelled
from hf_paint.tasks.subsets import GUESS, STRATIFIED, Splits
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic_photos import TypographicTask


_opened: ReadOnce[Task, Task] = ReadOnce()


def open_task(task: Task) -> Task:
    """Return a task that says all that its data tell, without `guess`; any other task is returned unchanged.

    - A split that is `guess` is the split of the data set with that name or a word for it, like `val`. Validation and
      test are drawn from train if there is none (`stratified`).
    - Columns are found by their features (see `name_columns`).
    - The class names of the data become words: `polka_dotted` is `polka dotted` in prompts. Names that would become
      equal stay as they are.

    Nothing is decoded. What is drawn is logged once.

    Raises:
        InputError: If the data cannot be read, or do not tell.
    """
    return _opened.get(task.name, task, partial(_open, task)) if task.guess else task


def _open(task: Task) -> Task:
    given = task.splits
    names = list_splits(task) if GUESS in _values(given).values() else []
    task = replace(task, splits=choose_splits(task, names))
    sources = task.splits.named()
    if not sources:
        raise InputError(f"Task '{task.name}' uses no split of its data. Name one in `splits`.")
    task, rows = read_rows(task, sources[0])
    if without := _splits_without_labels(task, given):
        kept = [name for name in names if name not in without]
        task = replace(task, splits=choose_splits(replace(task, splits=given), kept))
    _say_what_is_drawn(task, rows.table)
    return replace(task, guess=False)


def _splits_without_labels(task: Task, given: Splits) -> list[str]:
    """Return splits that were found and whose labels are all missing (None or -1), as those of a competition are."""
    if not isinstance(task, LabelledTask) or task.streaming:
        return []
    found = {
        own
        for own, value in zip(_values(task.splits).values(), _values(given).values(), strict=True)
        if value == GUESS
    }
    named = [source for source in task.splits.named() if source in found and source not in task.unlabelled_sources]
    return [source for source in named if _labels_in(task, source) <= {None, -1}]


def choose_splits(task: Task, names: Sequence[str]) -> Splits:
    """Return the splits of a task, given the names of those that its data have.

    Raises:
        InputError: If it is unclear which of them is the train split.
    """
    train = _named_like(names, "train")
    validation, test = _named_like(names, "validation"), _named_like(names, "test")
    if train is None and validation is None and test is None:
        if len(names) > 1 and task.splits.train == GUESS:
            raise InputError(
                f"{place_of(task)} has the splits {', '.join(names)}, of which none is called train, validation or "
                f"test. Set `splits` of task '{task.name}', as in {{dataset: ..., splits: {{train: {names[0]}}}}}."
            )
        train = next(iter(names), None)
    drawn = STRATIFIED if train is not None or task.splits.train not in (None, GUESS) else None
    found = {"train": train, "validation": validation or drawn, "test": test or drawn}
    return Splits(
        **{split: found[split] if value == GUESS else value for split, value in _values(task.splits).items()}
    )


def read_rows(task: Task, source: str) -> tuple[Task, Rows]:
    """Load one split (see `load_rows`), and return it with the task that names its columns and classes.

    Raises:
        InputError: If the split cannot be loaded, it lacks a column that the task names, or its columns or classes
            cannot be told.
    """
    rows = load_rows(task, source)
    found = name_columns(task, rows.table)
    check_columns(found, rows.table)
    found = _name_classes(found, rows.table)
    return (task, rows) if found == task else read_rows(found, source)  # labels in CSV files depend on their classes


def _named_like(names: Collection[str], usual: str) -> str | None:
    """Return the split with a usual name, or a word for it."""
    words = [name for name in names if SPLIT_OF.get(name.lower()) == usual]
    return usual if usual in names else next(iter(words), None)


def _values(splits: Splits) -> dict[str, str | None]:
    return {"train": splits.train, "validation": splits.validation, "test": splits.test}


def _name_classes(task: Task, rows: Dataset | IterableDataset) -> Task:
    """Return a task that lists the classes of its data, if they are texts or become words."""
    if not isinstance(task, LabelledTask) or isinstance(task, TypographicTask) or task.class_names is not None:
        return task
    feature = (rows.features or {}).get(task.label_column)
    if isinstance(feature, LISTS):
        if task.guess and not isinstance(task, MultiLabelTask):
            return Task.from_dict({**task.to_dict(), "rows": task.rows, "multi_label": True})
        feature = feature.feature
    if isinstance(feature, ClassLabel):
        names = [spelled(name) for name in feature.names]
    elif is_text(feature) and isinstance(rows, Dataset):
        names = _distinct_names(task)
    else:
        return task
    if not names:  # texts like `0;2` are positions in a list of classes that is missing
        return task
    words = as_words(names) if task.guess else tuple(names)
    if isinstance(feature, ClassLabel) and words == tuple(names):
        return task
    return replace(task, class_names=words, label_names=None if words == tuple(names) else tuple(names))


def _distinct_names(task: LabelledTask) -> list[str]:
    """Return the distinct labels of all splits that a task reads if they are texts, sorted."""
    labels = set[object]().union(*(_labels_in(task, source) for source in task.splits.named()))
    return sorted({spelled(label) for label in labels if isinstance(label, str)})


def _labels_in(task: LabelledTask, source: str) -> set[object]:
    rows = load_rows(task, source).table
    check_columns(task, rows)
    return distinct_labels(task, rows)


def _say_what_is_drawn(task: Task, rows: Dataset | IterableDataset) -> None:
    drawn = [name for name in ("validation", "test") if _values(task.splits)[name] == STRATIFIED]
    if drawn and isinstance(rows, Dataset):
        images = f"the {len(rows)} images in '{task.splits.train}'"
        what = f"a quarter of {images} was drawn as {drawn[0]}"
        if len(drawn) == 2:
            what = f"20 % of {images} were drawn as validation and 20 % as test"
        warn_once(f"{place_of(task)} has no {' or '.join(drawn)} split: {what}, the same share of each class.")
