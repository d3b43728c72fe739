"""Real-world typographic attacks: photos of objects next to a wrong written word (PAINT, Section 7)."""

from dataclasses import dataclass
from typing import Literal

from hf_paint.tasks.checks import check_bad_rows
from hf_paint.tasks.classification import LabelledTask


@dataclass(frozen=True, kw_only=True)
class TypographicTask(LabelledTask, kind="typographic", key="text_column"):
    """Photos that show an object and a written word; records include how often a model predicts the word.

    Without `class_names`, the classes are all labels and words that occur in the data.

    Attributes:
        text_column: Column with the words.
        bad_rows: What to do with files in a `typographic_folder` whose names do not contain a label and a word:
            `refuse` (raise an error) or `skip`.
    """

    text_column: str
    bad_rows: Literal["refuse", "skip"] = "refuse"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bad_rows(self.name, self.bad_rows)

    def label_columns(self) -> dict[str, str]:
        """Return key -> column for all columns except the image column."""
        return {"label_column": self.label_column, "text_column": self.text_column}
