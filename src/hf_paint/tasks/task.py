"""The fields that all kinds of task share, and how a task is built from a definition. A task is a YAML file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from hf_paint.tasks.checks import check_task
from hf_paint.tasks.corruptions import Corruption
from hf_paint.tasks.definitions import complete, read_file, write_file
from hf_paint.tasks.keys import plain_values, read_values
from hf_paint.tasks.subsets import Splits
from hf_paint.tasks.typographic import TypographicAttack


@dataclass(frozen=True, kw_only=True, init=False)
class Task:
    """A data set, its splits and the prompts: everything on which a CLIP model is evaluated or fine-tuned.

    A task is of one kind, a subclass that adds its own fields. `Task(...)`, `Task.from_dict` and `Task.from_yaml`
    build the kind that the keys select: `choices_column` a `MultipleChoiceTask`, `text_column` a `TypographicTask`,
    `counting` a `CountingTask`, and none of these a `ClassificationTask`.

    Attributes:
        name: The name in records, tables and metric keys: lower-case letters, digits, `_` and `-`.
        dataset: An id on the Hub, or the format of local files: `parquet`, `imagefolder`, ...
        templates: Prompts, each with exactly one `{}` for the class name.
        config: The configuration of the data set.
        revision: A branch, tag or commit of the data set.
        data_files: Local files, split -> path or list of paths, relative to the YAML file.
        data_dir: A local folder, relative to the YAML file.
        image_column: The column with the images.
        group_column: Rows of one group (the frames of a video) stay on one side of an `auto` validation split.
        splits: The names of the train, validation and test splits.
        where: Keep only the rows with these values, column -> value.
        corruption: The corruption of every image, for distribution shift.
        license: The licence of the data set, shown in the model card.
        homepage: The home page of the data set, shown in the model card.
        citation: The BibTeX entry of the data set, shown in the model card.
        source: The built-in name or the path of the definition; None for a task defined in Python.

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
    corruption: Corruption | None = None
    license: str | None = None
    homepage: str | None = None
    citation: str | None = None
    source: str | None = field(default=None, compare=False)

    kind: ClassVar[str]
    key: ClassVar[str]
    defaults: ClassVar[Mapping[str, object]] = {}
    kinds: ClassVar[dict[str, type["Task"]]] = {}

    def __init_subclass__(cls, *, kind: str = "", key: str = "") -> None:
        """Add a kind: its name in messages (none for a base of kinds), and the key that selects it."""
        cls.kind, cls.key = kind, key
        if kind:
            Task.kinds[key] = cls

    def __new__(cls, **values: object) -> "Task":
        """Return an instance of the kind that the values select, as `pathlib.Path` does for its platform."""
        kinds = (kind for key, kind in Task.kinds.items() if values.get(key))
        return super().__new__(next(kinds, Task.kinds[""]) if cls is Task else cls)

    def __post_init__(self) -> None:
        check_task(self)

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The class names that the definition lists; None if they come from the data, or if there are no classes."""
        return None

    @property
    def class_groups(self) -> Mapping[str, tuple[str, ...]] | None:
        """The names of each class, if classes have several."""
        return None

    @property
    def attack(self) -> TypographicAttack | None:
        """The typographic attack on every image."""
        return None

    @property
    def streaming(self) -> bool:
        """Whether the data set is read as a stream."""
        return False

    @property
    def is_changed(self) -> bool:
        """Whether the images or the classes differ from the data set's."""
        return self.corruption is not None

    @property
    def example_prompt(self) -> str:
        """A prompt for the example in the model card."""
        return self.templates[0]

    def label_columns(self) -> dict[str, str]:
        """Return key -> column of the columns besides the images."""
        return {}

    @classmethod
    def known_keys(cls) -> list[str]:
        """Return the keys of a definition of this kind."""
        return [f.name for f in fields(cls) if f.name != "source"]

    @classmethod
    def from_dict(cls, definition: Mapping[str, object], *, source: str | None = None) -> "Task":
        """Build a task from the keys of a task YAML; with `extends`, from the keys that differ from another task.

        Raises:
            InputError: If a key is unknown, missing or belongs to another kind of task, or a value is invalid.
        """
        values = read_values(complete(definition), Task.kinds, f" in {source}" if source else "")
        return Task(**values, source=source)

    @classmethod
    def from_yaml(cls, path: str | Path) -> "Task":
        """Read a task YAML; `data_files` and `data_dir` are relative to the file.

        Raises:
            InputError: If the file cannot be read or does not define a task.
        """
        path = Path(path).expanduser().resolve()
        return cls.from_dict(read_file(path), source=str(path))

    def to_dict(self) -> dict[str, Any]:
        """Return the definition as the keys of a task YAML, without defaults; `from_dict` reads it back."""
        defaults = {f.name: f.default for f in fields(self)} | {"source": self.source}
        return plain_values({key: value for key, value in asdict(self).items() if value != defaults[key]})

    def to_yaml(self, path: str | Path) -> None:
        """Write a task YAML; paths of data files in its folder become relative, so the folder can be moved."""
        write_file(self.to_dict(), Path(path))
