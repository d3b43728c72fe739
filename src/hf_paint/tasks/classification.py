"""Classification: every image has one label, which is one of the task's classes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hf_paint.errors import InputError
from hf_paint.tasks.checks import check_unlabelled, refuse_duplicates
from hf_paint.tasks.subsets import ClassSplit
from hf_paint.tasks.task import Task
from hf_paint.tasks.typographic import TypographicAttack


@dataclass(frozen=True, kw_only=True)
class LabelledTask(Task):
    """Base class for tasks with labelled images.

    Attributes:
        class_names: Class names for the prompts, or a mapping from each name in the data to its words in the prompts.
            Optional if the label column is a `ClassLabel`.
        label_names: Class names in the data set, in the same order as `class_names`. Only needed if the two differ in
            more than case, spaces and punctuation, because labels are matched by name. Integers without names are
            positions in `class_names`, unless some of the names are other numbers: then they are matched as names.
        class_groups: Class name -> alternative names for the prompts. The logit of a class is the maximum over its
            names, so a prediction is correct if it is any name of the right class.
        label_column: Column with the labels.
        class_split: Keep only one half of the classes: their rows, and their names in the head.
        only_classes: Keep only the rows of these classes. The head still contains all classes.
        own_head: With `only_classes`, restrict the head to these classes as well.
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
            raise InputError(f"`own_head` of task '{self.name}' requires `only_classes`: list the classes to keep.")
        refuse_duplicates(self.name, self.only_classes or ())

    @property
    def is_changed(self) -> bool:
        """Whether the task changes the images or the classes of its data set."""
        return bool(super().is_changed or self.class_split or self.only_classes)

    def label_columns(self) -> dict[str, str]:
        """Return key -> column for all columns except the image column."""
        return {"label_column": self.label_column}

    def check_classes(self, class_names: Sequence[str]) -> None:
        """Check class names, from the definition or the data set, against the requirements of this kind of task.

        Raises:
            InputError: If this kind of task cannot use them.
        """
        if self.class_split is not None:
            self.class_split.classes(len(class_names))


@dataclass(frozen=True, kw_only=True)
class ClassificationTask(LabelledTask, kind="classification"):
    """An image classification task.

    Attributes:
        attack: Typographic attack applied to every image, before any corruption.
        streaming: Stream the data set, for splits that are too large to download.
        unlabelled: Those of the splits `train` and `validation` whose images have no labels. They need no label
            column, and its contents are not read. Merges and choices of alpha that read no labels can use such images.

    Example:
        >>> task = ClassificationTask(name="pets", dataset="me/pets", templates=("a {}",), class_names=("cat", "dog"))
        >>> task.class_names
        ('cat', 'dog')
    """

    attack: TypographicAttack | None = None
    streaming: bool = False
    unlabelled: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unlabelled:
            check_unlabelled(self)
        if self.streaming and self.where:
            raise InputError(f"Task '{self.name}' sets both `streaming` and `where`. Remove one of the two keys.")

    @property
    def is_changed(self) -> bool:
        """Whether the task changes the images or the classes of its data set."""
        return super().is_changed or self.attack is not None


def _check_names(task: LabelledTask) -> None:
    class_names = task.class_names or ()
    refuse_duplicates(task.name, task.label_names or class_names)
    if task.label_names is not None and len(task.label_names) != len(class_names):
        raise InputError(
            f"Task '{task.name}' has {len(task.label_names)} `label_names` but {len(class_names)} `class_names`. List "
            "the same number of both, in the same order."
        )
    if task.class_groups is not None:
        if sorted(task.class_groups) != sorted(class_names):
            raise InputError(f"The keys of `class_groups` must be the `class_names` of task '{task.name}'.")
        refuse_duplicates(task.name, [name for group in task.class_groups.values() for name in group])
