"""Photos with words in them: a wrong word next to an object attacks the model (PAINT, Section 7)."""

from dataclasses import dataclass
from typing import Literal

from hf_paint.tasks.checks import check_bad_rows
from hf_paint.tasks.classification import LabelledTask


@dataclass(frozen=True, kw_only=True)
class TypographicTask(LabelledTask, kind="typographic", key="text_column"):
    """Photos of objects with words in them: records count the photos that a model classifies as the word.

    Without `class_names`, the classes are all labels and all words of the data.

    Attributes:
        text_column: The column with the words.
        bad_rows: `refuse` or `skip` the files of a `typographic_folder` whose names give no label and word.
    """

    text_column: str
    bad_rows: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bad_rows(self.name, self.bad_rows)

    def label_columns(self) -> dict[str, str]:
        """Return key -> column of the columns besides the images."""
        return {"label_column": self.label_column, "text_column": self.text_column}
