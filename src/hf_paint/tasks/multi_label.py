"""Multi-label tasks: an image can show several of the classes, or none of them."""

from dataclasses import dataclass
from typing import Literal

from hf_paint.errors import InputError
from hf_paint.tasks.classification import LabelledTask


ONE_CLASS_KEYS = ("class_split", "only_classes")
"""Keys that divide images by class, which is impossible if an image can be on both sides."""


@dataclass(frozen=True, kw_only=True)
class MultiLabelTask(LabelledTask, kind="multi-label", key="multi_label"):
    """A task whose label column holds the classes of each image: a list, or text with a separator.

    An image is classified correctly if the class with the highest score is one of its classes. Records also contain
    the mean average precision, which measures the order of all images by their score for each class.

    A list can be empty: the image shows none of the task's classes. Such images count as negatives in the average
    precision, but neither in accuracy, loss and calibration error nor in training, where no answer would be right.

    Attributes:
        multi_label: Always True; setting this key makes a task a multi-label task.
        label_separator: Separator between the classes of an image, if the label column holds text: `cat;dog` has the
            separator `;`. Spaces around a class do not count, and an empty text is an empty list.

    Example:
        >>> task = MultiLabelTask(name="scenes", dataset="me/scenes", templates=("a {}",), multi_label=True)
        >>> task.label_columns()
        {'label_column': 'label'}
    """

    multi_label: Literal[True]
    label_separator: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for key in ONE_CLASS_KEYS:
            if getattr(self, key) is not None:
                raise InputError(
                    f"`{key}` of task '{self.name}' keeps the images of some classes, but with `multi_label` an image "
                    "can have these and other classes. Remove one of the two keys."
                )
        if self.label_separator is not None and (
            not isinstance(self.label_separator, str) or not self.label_separator
        ):
            raise InputError(
                f"`label_separator` of task '{self.name}' must be the text between two classes, like ';', got "
                f"{self.label_separator!r}."
            )
