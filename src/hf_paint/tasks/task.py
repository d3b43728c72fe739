"""What a task is: a data set, its splits, the class names and the prompts. A task is a YAML file."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, Self

from hf_paint.errors import InputError
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.counting import count_values
from hf_paint.tasks.definitions import complete, read_file
from hf_paint.tasks.keys import NAME_LISTS, read_values
from hf_paint.tasks.subsets import ClassSplit, Splits
from hf_paint.tasks.typographic import TypographicAttack


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """An image classification task that a CLIP model can do from prompts.

    Attributes:
        name: What records, tables and metric keys call it; lower case letters, digits, `_` and `-`.
        dataset: An id on the Hub, or `parquet`, `imagefolder`, ... for local files.
        templates: Prompts, each a string with exactly one `{}` for the class name.
        class_names: The names that go into the prompts. May be left out when the label column is a ClassLabel, and
            with a `text_column`: the classes are then all labels and all words.
        label_names: What the data set itself calls the classes, in the order of `class_names`. Only needed where the
            two differ by more than case, spaces and punctuation: labels are matched by name, never by position.
        class_groups: Several names for a class, class name -> the names that go into the prompts instead. The logit of
            the class is the highest of theirs, so an image is right when the best name is any of its class.
        config: The configuration of the data set.
        revision: A branch, tag or commit of the data set.
        data_files: Local files, split -> path or list of paths, relative to the YAML file.
        data_dir: A local folder, relative to the YAML file.
        image_column: The column with the images.
        label_column: The column with the labels.
        group_column: Rows of one group (the frames of a video) stay on one side of an `auto` validation split.
        splits: The names of the train, validation and test splits.
        text_column: The column with the words that are written in the images, for typographic attacks on photos.
        where: Keep the rows of which these columns have these values, column -> value.
        bad_rows: `refuse` or `skip` what cannot be used: files of a `typographic_folder` whose names say nothing, and,
            with `choices_column`, rows without question, answer or candidates, or with another answer.
        class_split: Keep the rows and the names of one half of the classes.
        only_classes: Keep the rows of these classes; the other classes stay as candidates.
        own_head: With `only_classes`, the other classes are no candidates either.
        counting: The class names are counts, such as `three` or `3`: records hold the mean absolute error too.
        choices_column: The column with the candidates of each row, a list of texts: multiple choice, without classes.
        question_column: With `choices_column`, the column with the question.
        answer_column: With `choices_column`, the column with the answer: one of the candidates, or its position.
        answer_type_column: With `choices_column`, a column by which the accuracy is also told apart.
        prompt: What the model reads for a candidate. A text longer than its context is cut at the end, with the answer
            if that comes last.
        attack: What is written over every image, for typographic attacks on any task.
        corruption: What is done to every image after that, for distribution shift.
        streaming: Read the data set as a stream, for splits that are too large to copy.
        license: The licence of the data set, for the card.
        homepage: Where the data set comes from, for the card.
        citation: BibTeX, for the card.
        source: The built-in name or the path that the task was read from; None for a task made in Python.

    A folder of photographs, sorted by how many objects they show into `three/`, `four/` and so on, is a counting task:
    `dataset: imagefolder`, `data_dir: photographs`, `counting: true`, `templates: ["a photo of {} objects."]`.
    """

    name: str
    dataset: str
    templates: tuple[str, ...]
    class_names: tuple[str, ...] | None = None
    label_names: tuple[str, ...] | None = None
    class_groups: Mapping[str, tuple[str, ...]] | None = None
    config: str | None = None
    revision: str | None = None
    data_files: Mapping[str, str | list[str]] | None = None
    data_dir: str | None = None
    image_column: str = "image"
    label_column: str = "label"
    group_column: str | None = None
    splits: Splits = field(default_factory=Splits)
    text_column: str | None = None
    where: Mapping[str, Any] | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"
    class_split: ClassSplit | None = None
    only_classes: tuple[str, ...] | None = None
    own_head: bool = False
    counting: bool = False
    choices_column: str | None = None
    question_column: str = "question"
    answer_column: str = "answer"
    answer_type_column: str | None = None
    prompt: str = "{question} {answer}"
    attack: TypographicAttack | None = None
    corruption: Corruption | None = None
    streaming: bool = False
    license: str | None = None
    homepage: str | None = None
    citation: str | None = None
    source: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        _check(self)

    @classmethod
    def from_dict(cls, definition: Mapping[str, Any], *, source: str | None = None) -> Self:
        """Make a task from the keys of a task YAML, or from those in which it differs from another that it `extends`.

        Raises:
            InputError: If a key is unknown or missing, or a value cannot be used.
        """
        return cls(**read_values(complete(definition), [f.name for f in fields(cls) if f.name != "source"], source))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Self:
        """Read a task YAML; `data_files` and `data_dir` are taken relative to the file.

        Raises:
            InputError: If the file cannot be read or does not define a task.
        """
        path = Path(path).expanduser().resolve()
        return cls.from_dict(read_file(path), source=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as the keys of a task YAML, defaults left out; `from_dict` reads it back."""
        defaults = {f.name: f.default for f in fields(self)}
        values = {key: value for key, value in asdict(self).items() if value != defaults[key] and key != "source"}
        for key in NAME_LISTS:
            if key in values:
                values[key] = list(values[key])
        if self.class_groups is not None:
            values["class_groups"] = {name: list(group) for name, group in self.class_groups.items()}
        if self.attack is not None:
            values["attack"] |= {key: list(values["attack"][key]) for key in ("fonts", "font_sizes")}
        return values


def _check(task: Task) -> None:
    if not re.fullmatch(r"[a-z0-9_-]+", task.name):
        raise InputError(f"Task name '{task.name}' must consist of lower case letters, digits, '_' and '-'.")
    for template in task.templates:
        if template.count("{}") != 1:
            raise InputError(f"Template {template!r} of task '{task.name}' must hold exactly one {{}}.")
    _check_classes(task)
    _check_rows(task)
    if task.choices_column is not None:
        _check_choices(task)
    splits = task.splits
    for name in ("train", "validation"):
        if splits.test is not None and getattr(splits, name) == splits.test:
            raise InputError(
                f"Task '{task.name}' has {name} = test ('{splits.test}'): the images that report the result would "
                "have a part in it. Name another split, or null."
            )


def _check_classes(task: Task) -> None:
    _refuse_duplicates(task.name, task.label_names or task.class_names or ())
    if task.label_names is not None and len(task.label_names) != len(task.class_names or ()):
        raise InputError(f"Task '{task.name}' needs as many `label_names` as `class_names`.")
    if task.class_groups is not None:
        if sorted(task.class_groups) != sorted(task.class_names or ()):
            raise InputError(f"Task '{task.name}' needs one of `class_groups` for each of its `class_names`.")
        _refuse_duplicates(task.name, [name for group in task.class_groups.values() for name in group])
    if task.class_split is not None and task.class_names is not None:
        task.class_split.classes(len(task.class_names))
    if task.own_head and task.only_classes is None:
        raise InputError(f"Task '{task.name}' has `own_head`, which is that of its `only_classes`: name them.")
    _refuse_duplicates(task.name, task.only_classes or ())
    if task.counting:
        count_values(task.class_names or ())


def _check_choices(task: Task) -> None:
    for key in (
        "class_names",
        "class_groups",
        "class_split",
        "only_classes",
        "counting",
        "streaming",
        "text_column",
        "attack",
    ):
        if getattr(task, key):
            raise InputError(f"Task '{task.name}' has `choices_column`, so it cannot have `{key}`.")
    if task.prompt.count("{answer}") != 1:
        raise InputError(f"The prompt {task.prompt!r} of task '{task.name}' must hold exactly one {{answer}}.")


def _check_rows(task: Task) -> None:
    if task.bad_rows not in ("refuse", "skip"):
        raise InputError(f"`bad_rows` of task '{task.name}' must be `refuse` or `skip`, got {task.bad_rows!r}.")
    if not isinstance(task.where or {}, Mapping):
        raise InputError(f"`where` of task '{task.name}' must map columns to values, such as {{type: SCAM}}.")
    if task.streaming and (task.text_column or task.where):
        raise InputError(f"Task '{task.name}' streams: it cannot have `text_column` or `where`.")
    if task.text_column and task.attack is not None:
        raise InputError(f"Task '{task.name}' has words in its images already: it cannot have `attack`.")


def _refuse_duplicates(task_name: str, names: Sequence[str]) -> None:
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise InputError(f"Task '{task_name}' lists the class name '{duplicates[0]}' twice.")
