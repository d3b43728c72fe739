"""Classification: every image has one label, one of the classes of the task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paint.errors import InputError
from hf_paint.tasks.checks import refuse_duplicates
from hf_paint.tasks.subsets import ClassSplit
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic import TypographicAttack


@dataclass(frozen=True, kw_only=True)
class LabelledTask(Task):
    """The base class of tasks whose images have labels; its fields define the classes of the labels.

    Attributes:
        class_names: The class names for the prompts. Optional if the label column is a `ClassLabel`.
        label_names: The class names in the data set, in the order of `class_names`. Needed only if the two differ by
            more than case, spaces and punctuation: labels are matched by name, never by position.
        class_groups: Several names for a class: class name -> the names for the prompts. The logit of a class is the
            highest of its names, so a prediction is correct if it is any name of the right class.
        label_column: The column with the labels.
        class_split: Keep the rows and the names of one half of the classes.
        only_classes: Keep the rows of these classes; all classes remain candidates.
        own_head: With `only_classes`, only these classes are candidates.
    """

    class_names: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None
    class_groups: Mapping[str, tuple[str, ...]] | None = None
    label_column: str = "label"
    class_split: ClassSplit | None = None
    only_classes: tuple[str, ...] | None = None
    own_head: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_names(self)
        if self.class_names is not None:
            self.check_classes(self.class_names)
        if self.own_head and self.only_classes is None:
            raise InputError(f"`own_head` of task '{self.name}' requires `only_classes`, the classes of that head.")
        refuse_duplicates(self.name, self.only_classes or ())

    @property
    def is_changed(self) -> bool:
        """Whether the images or the classes differ from the data set's."""
        return bool(super().is_changed or self.class_split or self.only_classes)

    def label_columns(self) -> dict[str, str]:
        """Return key -> column of the columns besides the images."""
        return {"label_column": self.label_column}

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Refuse class names, of the definition or of the data set, that this kind of task cannot use.

        Raises:
            InputError: If there are any.
        """
        if self.class_split is not None:
            self.class_split.classes(len(class_names))


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(LabelledTask, kind="classification"):
    """An image classification task.

    Attributes:
        attack: The typographic attack on every image, before any corruption.
        streaming: Read the data set as a stream, for splits that are too large to download.

    Example:
        >>> task = ClassificationTask(name="pets", dataset="me/pets", templates=("a {}",), class_names=("cat", "dog"))
        >>> task.class_names
        ('cat', 'dog')
    """

    attack: TypographicAttack | None = None
    streaming: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.streaming and self.where:
            raise InputError(f"Task '{self.name}' is streamed and cannot have `where`. Remove one of the two keys.")

    @property
    def is_changed(self) -> bool:
        """Whether the images or the classes differ from the data set's."""
        return super().is_changed or self.attack is not None


def _check_names(task: LabelledTask) -> None:
    class_names = task.class_names or ()
    refuse_duplicates(task.name, task.label_names or class_names)
    if task.label_names is not None and len(task.label_names) != len(class_names):
        raise InputError(
            f"Task '{task.name}' has {len(task.label_names)} `label_names` and {len(class_names)} `class_names`; it "
            "needs the same number of both, in the same order."
        )
    if task.class_groups is not None:
        if sorted(task.class_groups) != sorted(class_names):
            raise InputError(f"Task '{task.name}' needs one of `class_groups` for each of its `class_names`.")
        refuse_duplicates(task.name, [name for group in task.class_groups.values() for name in group])
