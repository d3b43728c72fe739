"""Multiple choice: each row lists candidate answers, one of which is correct (PAINT, case studies)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from hf_paint.errors import InputError
from hf_paint.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceTask(Task, kind="multiple-choice", key="choices_column"):
    """Questions about images, each with its own list of candidate answers, as in visual question answering.

    Rows that lack a question, an answer or candidates, or whose answer is not one of the candidates, are bad rows.

    Attributes:
        choices_column: Column with the candidates, a list of strings per row.
        question_column: Column with the question.
        answer_column: Column with the answer, either the text of a candidate or its position in the list.
        answer_type_column: Column with the type of answer; accuracy is also reported for each type.
        prompt: Prompt for a question and a candidate, with `{question}` and exactly one `{answer}`. Texts longer than
            the context of the model are truncated, so an answer at the end may be cut off.
    """

    choices_column: str
    question_column: str = "question"
    answer_column: str = "answer"
    answer_type_column: str | None = None
    prompt: str = "{question} {answer}"

    defaults: ClassVar[Mapping[str, object]] = {"templates": ["{}"]}  # prompts are used as they are

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.prompt.count("{answer}") != 1:
            raise InputError(
                f"The prompt {self.prompt!r} of task '{self.name}' must contain exactly one {{answer}}, which is "
                "replaced by each candidate."
            )

    @property
    def example_prompt(self) -> str:
        """Prompt for the example in the model card."""
        return self.prompt

    def label_columns(self) -> dict[str, str]:
        """Return key -> column for all columns except the image column."""
        columns = {
            "choices_column": self.choices_column,
            "question_column": self.question_column,
            "answer_column": self.answer_column,
        }
        return columns | ({"answer_type_column": self.answer_type_column} if self.answer_type_column else {})

    def text(self, question: str, candidate: str) -> str:
        """Fill a question and a candidate into the prompt; braces in either are left unchanged."""
        before, after = (part.replace("{question}", question) for part in self.prompt.split("{answer}"))
        return f"{before}{candidate}{after}"
