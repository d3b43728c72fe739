"""The base class of all tasks, and how a task is built from its definition, usually a YAML file."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Literal

from hf_paint.files import expand
from hf_paint.tasks.checks import check_task
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.definitions import complete, read_file, write_file
from hf_paint.tasks.keys import plain_values, read_parts, read_values
from hf_paint.tasks.notebooks import task_html
from hf_paint.tasks.references import InMemory
from hf_paint.tasks.subsets import STRATIFIED, Splits
from hf_paint.tasks.typographic import TypographicAttack


NOT_WRITTEN = ("source", "rows")
"""Fields that are no keys of a definition."""


@dataclass(frozen=True, kw_only=True, init=False)
class Task:
    """A data set with its splits and prompts: what a CLIP model is fine-tuned and evaluated on.

    Each kind of task is a subclass with additional fields. `Task(...)`, `Task.from_dict` and `Task.from_yaml` return
    the subclass that matches the keys: `MultipleChoiceTask` if `choices_column` is set, `TypographicTask` for
    `text_column`, `CountingTask` for `counting`, `MultiLabelTask` for `multi_label`, and `ClassificationTask`
    otherwise.

    Attributes:
        name: Name in records, tables and metric keys; may contain lower-case letters, digits, `_` and `-`.
        dataset: Data set id on the Hub, or the format of local files (`parquet`, `imagefolder`, ...).
        templates: Prompts, each with exactly one `{}` for the class name.
        config: Configuration name of the data set.
        revision: Branch, tag or commit of the data set.
        data_files: Local files, split -> path or list of paths, relative to the YAML file.
        data_dir: Local folder, or zip file of pictures, relative to the YAML file.
        image_column: Column with the images.
        group_column: Column with group ids. An `auto` validation split never separates rows of the same group, for
            instance frames of one video.
        splits: Names of the train, validation and test splits.
        where: Column -> value; only rows with these values are kept.
        bad_rows: What to do with rows that cannot be used, because their image cannot be read or for another reason
            that a kind of task adds: `refuse` (raise an error that names them) or `skip`.
        corruption: Corruption applied to every image, to measure distribution shift.
        license: Licence of the data set, shown in the model card.
        homepage: Home page of the data set, shown in the model card.
        citation: BibTeX entry of the data set, shown in the model card.
        guess: Whether what the definition does not say is found when the data are opened: the columns, the splits, and
            words for the class names.
        source: Built-in name or path that the task was read from; None for a task defined in Python.
        rows: Data in memory, if `dataset` is `memory`; a recipe or a YAML file cannot hold them.

    Lists are accepted for tuples, mappings for `Splits` and other parts, and a single string for `templates`.
    `class_names` may also map each name in the data to its words in the prompts.

    Example:
        >>> pets = Task(name="pets", dataset="me/pets", templates=("a {}",), class_names=("cat", "dog"))
        >>> type(pets).__name__
        'ClassificationTask'
    """

    name: str
    dataset: str
    templates: tuple[str, ...]
    config: str | None = None
    revision: str | None = None
    data_files: Mapping[str, str | list[str]] | None = None
    data_dir: str | None = None
    image_column: str = "image"
    group_column: str | None = None
    splits: Splits = field(default_factory=Splits)
    where: Mapping[str, object] | None = None
    bad_rows: Literal["refuse", "skip"] = "refuse"
    corruption: Corruption | None = None
    license: str | None = None
    homepage: str | None = None
    citation: str | None = None
    guess: bool = False
    source: str | None = field(default=None, compare=False)
    rows: InMemory | None = field(default=None, compare=False, repr=False)

    kind: ClassVar[str]
    key: ClassVar[str]
    defaults: ClassVar[Mapping[str, object]] = {}
    kinds: ClassVar[dict[str, type["Task"]]] = {}

    def __init_subclass__(cls, *, kind: str = "", key: str = "") -> None:
        """Register a kind of task under the key that selects it; `kind` is its name in messages, empty for a base."""
        cls.kind, cls.key = kind, key
        if kind:
            Task.kinds[key] = cls

    def __new__(cls, **values: object) -> "Task":
        """Create an instance of the subclass that the values select, as `pathlib.Path` does for its platform."""
        kinds = (kind for key, kind in Task.kinds.items() if values.get(key))
        return super().__new__(next(kinds, Task.kinds[""]) if cls is Task else cls)

    def __post_init__(self) -> None:
        for key, value in read_parts({f.name: getattr(self, f.name) for f in fields(self)}, "").items():
            object.__setattr__(self, key, value)
        check_task(self)

    _repr_html_ = task_html

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """Class names listed in the definition; None if they come from the data or the task has no classes."""
        return None

    @property
    def class_groups(self) -> Mapping[str, tuple[str, ...]] | None:
        """Class -> its names, if a class can have several names."""
        return None

    @property
    def attack(self) -> TypographicAttack | None:
        """Typographic attack applied to every image."""
        return None

    @property
    def unlabelled(self) -> tuple[str, ...]:
        """Those of `train` and `validation` whose images have no labels."""
        return ()

    @property
    def unlabelled_sources(self) -> set[str]:
        """The splits of the data set from which unlabelled splits are read."""
        return {source for name in self.unlabelled if (source := self.splits.source_of(name)) is not None}

    @property
    def streaming(self) -> bool:
        """Whether the data set is read as a stream."""
        return False

    @property
    def is_changed(self) -> bool:
        """Whether the task changes the images or the classes of its data set, or tests on rows of its own choice."""
        return self.corruption is not None or self.splits.test == STRATIFIED

    @property
    def example_prompt(self) -> str:
        """Prompt for the example in the model card."""
        return self.templates[0]

    def label_columns(self) -> dict[str, str]:
        """Return key -> column for all columns except the image column."""
        return {}

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys allowed in definitions of this kind of task."""
        return [f.name for f in fields(cls) if f.name not in NOT_WRITTEN]

    @classmethod
    def from_dict(cls, definition: Mapping[str, object], *, source: str | None = None) -> "Task":
        """Build a task from the keys of a task YAML; with `extends`, only keys that differ from that task are needed.

        Raises:
            InputError: If a key is unknown, missing or belongs to another kind of task, or a value is invalid.
        """
        keys = {key: value for key, value in definition.items() if key != "rows"}
        values = read_values(complete(keys), Task.kinds, f" in {source}" if source else "")
        return Task(**values, rows=definition.get("rows"), source=source)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Task":
        """Read a task YAML; `data_files` and `data_dir` are relative to the file.

        Raises:
            InputError: If the file cannot be read or does not define a task.
        """
        path = expand(path).resolve()
        return cls.from_dict(read_file(path), source=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the task as the keys of a task YAML, omitting defaults; the inverse of `from_dict`."""
        defaults = {f.name: f.default for f in fields(self) if f.name not in NOT_WRITTEN}
        values = {key: getattr(self, key) for key in defaults}
        return plain_values({key: value for key, value in values.items() if value != defaults[key]})

    def to_yaml(self, path: str | Path) -> None:
        """Write a task YAML. Paths to data files in the same folder become relative, so the folder can be moved."""
        write_file(self.to_dict(), Path(path))
