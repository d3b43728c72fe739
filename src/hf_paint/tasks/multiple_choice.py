"""Multiple choice: every row has its own candidates, one of which is the answer (PAINT, case studies)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from hf_paint.errors import InputError
from hf_paint.tasks.checks import check_bad_rows
from hf_paint.tasks.task import Task


@dataclass(frozen=True, kw_only=True)
class MultipleChoiceTask(Task, kind="multiple-choice", key="choices_column"):
    """Questions about images, each with its own candidate answers, as in visual question answering.

    Attributes:
        choices_column: The column with the candidates of each row, a list of strings.
        question_column: The column with the question.
        answer_column: The column with the answer: one of the candidates, or its position.
        answer_type_column: The column that breaks down the accuracy by type of answer.
        prompt: The text of a candidate, with `{question}` and one `{answer}`. The model truncates a text that exceeds
            its context, so an answer at the end may be lost.
        bad_rows: `refuse` or `skip` rows without a question, an answer or candidates, or whose answer is not one of
            the candidates.
    """

    choices_column: str
    question_column: str = "question"
    answer_column: str = "answer"
    answer_type_column: str | None = None
    prompt: str = "{question} {answer}"
    bad_rows: Literal["refuse", "skip"] = "refuse"

    defaults: ClassVar[Mapping[str, object]] = {"templates": ["{}"]}  # the head takes the texts as they are

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bad_rows(self.name, self.bad_rows)
        if self.prompt.count("{answer}") != 1:
            raise InputError(
                f"The prompt {self.prompt!r} of task '{self.name}' must contain exactly one {{answer}}, the place of "
                "the candidate."
            )

    @property
    def example_prompt(self) -> str:
        """A prompt for the example in the model card."""
        return self.prompt

    def label_columns(self) -> dict[str, str]:
        """Return key -> column of the columns besides the images."""
        columns = {
            "choices_column": self.choices_column,
            "question_column": self.question_column,
            "answer_column": self.answer_column,
        }
        return columns | ({"answer_type_column": self.answer_type_column} if self.answer_type_column else {})

    def text(self, question: str, candidate: str) -> str:
        """Return the prompt with a question and a candidate filled in; braces in either remain as they are."""
        before, after = (part.replace("{question}", question) for part in self.prompt.split("{answer}"))
        return f"{before}{candidate}{after}"
