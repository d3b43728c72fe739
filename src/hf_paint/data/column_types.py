"""Check that the columns of a data set hold what a task reads from them."""

from datasets import Array2D, Array3D, ClassLabel, Dataset, Image, IterableDataset, LargeList, List, Value

from hf_paint.errors import InputError
from hf_paint.tasks.multi_label import MultiLabelTask
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task


NUMBERS = ("int", "uint", "float")
TEXTS = ("string", "large_string")
LISTS = (List, LargeList)


def check_column_types(task: Task, rows: Dataset | IterableDataset) -> None:
    """Check the types of the columns that a task reads; a stream whose types are not known is not checked.

    Raises:
        InputError: If a column has the wrong type, for instance a list of labels per image.
    """
    features = rows.features or {}
    if not is_image(features.get(task.image_column, Image())):
        raise _wrong(task, features, "image_column", "one image per row (an image, its encoded bytes or its path)")
    if isinstance(task, MultipleChoiceTask):
        _check_choices(task, features)
    elif isinstance(task, MultiLabelTask):
        _check_lists(task, features)
    else:
        for key in task.label_columns():
            expected = (
                "one label per image, a name or a number (for several labels per image, set `multi_label: true`)"
            )
            _check_scalar(task, features, key, expected)
    if task.group_column is not None:
        _check_scalar(task, features, "group_column", "one group per image, a name or a number")


def _check_choices(task: MultipleChoiceTask, features: dict[str, object]) -> None:
    choices = features.get(task.choices_column)
    if choices is not None and not (isinstance(choices, LISTS) and _is_scalar(choices.feature)):
        raise _wrong(task, features, "choices_column", "a list of candidates per row, like ['red', 'blue']")
    for key in task.label_columns().keys() - {"choices_column"}:
        _check_scalar(task, features, key, "one text or number per row")


def _check_lists(task: MultiLabelTask, features: dict[str, object]) -> None:
    feature, is_text = features.get(task.label_column), task.label_separator is not None
    if is_text and not (isinstance(feature, Value) and feature.dtype in TEXTS):
        raise _wrong(task, features, "label_column", "text, because `label_separator` is set, like 'cat;dog'")
    if not is_text and not (isinstance(feature, LISTS) and _is_scalar(feature.feature)):
        expected = "a list of labels per image, like ['cat', 'dog']; of text, set `label_separator`"
        raise _wrong(task, features, "label_column", expected)


def _check_scalar(task: Task, features: dict[str, object], key: str, expected: str) -> None:
    if not _is_scalar(features.get(getattr(task, key), Value("string"))):
        raise _wrong(task, features, key, expected)


def _is_scalar(feature: object) -> bool:
    is_value = isinstance(feature, Value) and (
        feature.dtype in (*TEXTS, "bool") or feature.dtype.rstrip("0123456789") in NUMBERS
    )
    return isinstance(feature, ClassLabel) or is_value


def describe_type(feature: object) -> str:
    """Return what a column holds in words, like `10 classes`, `lists of string` or `image`."""
    if isinstance(feature, LISTS):
        return f"lists of {describe_type(feature.feature)}"
    if isinstance(feature, ClassLabel):
        return f"{feature.num_classes} classes"
    return str(feature.dtype) if isinstance(feature, Value) else type(feature).__name__.lower()


def is_image(feature: object) -> bool:
    """Return whether `datasets` can decode a column as images: files, their bytes, or arrays of pixels."""
    if isinstance(feature, dict):
        return feature.keys() <= {"bytes", "path"}
    is_file = isinstance(feature, Value) and feature.dtype in (*TEXTS, "binary", "large_binary")
    return is_file or isinstance(feature, (Image, Array2D, Array3D)) or _is_pixels(feature)


def _is_pixels(feature: object) -> bool:
    """Return whether a column holds nested lists of pixels, (height, width) or (height, width, channels)."""
    depth = 0
    while isinstance(feature, LISTS):
        feature, depth = feature.feature, depth + 1
    return depth in (2, 3) and isinstance(feature, Value) and feature.dtype.rstrip("0123456789") in NUMBERS


def _wrong(task: Task, features: dict[str, object], key: str, expected: str) -> InputError:
    column = getattr(task, key)
    return InputError(
        f"The column '{column}' of '{task.dataset}' holds {features[column]}, but `{key}` of task '{task.name}' must "
        f"be a column with {expected}. Correct `{key}`."
    )
