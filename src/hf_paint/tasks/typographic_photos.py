"""Real-world typographic attacks: photos of objects next to a wrong written word (PAINT, Section 7)."""

from dataclasses import dataclass

from hf_paint.tasks.classification import LabelledTask


@dataclass(frozen=True, kw_only=True)
class TypographicTask(LabelledTask, kind="typographic", key="text_column"):
    """Photos that show an object and a written word; records include how often a model predicts the word.

    Without `class_names`, the classes are all labels and words that occur in the data. Files in a
    `typographic_folder` whose names do not contain a label and a word are bad rows.

    Attributes:
        text_column: Column with the words.
    """

    text_column: str

    def label_columns(self) -> dict[str, str]:
        """Return key -> column for all columns except the image column."""
        return {"label_column": self.label_column, "text_column": self.text_column}
