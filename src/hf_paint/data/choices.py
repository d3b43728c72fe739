"""Multiple choice: every row brings candidates of its own, of which one is the answer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.tasks.task import Task


NUM_SHOWN = 3
"""How many bad rows a message describes."""
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """The candidates of the rows of a split.

    Attributes:
        texts: For each row the texts of its candidates, each once: the answers in the prompt of the task.
        labels: shape (num_rows,), the position of the answer among the candidates of the row.
        answer_types: What kind of answer each row asks for; None where the task does not say.
        questions: The question of each row.
        prompt: The prompt of the task.
    """

    texts: Sequence[tuple[str, ...]]
    labels: NDArray[np.int64]
    answer_types: tuple[str, ...] | None
    questions: tuple[str, ...]
    prompt: str

    def candidates(self, row: int) -> tuple[str, ...]:
        """Return the candidates of a row as the data set has them: its texts without the prompt."""
        before, after = _around(self.prompt, self.questions[row])
        return tuple(text[len(before) : len(text) - len(after)] for text in self.texts[row])

    def targets(self, all_texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the label of each row and where its candidates are among all texts, as a `CandidateHead` takes them.

        Args:
            all_texts: The texts of all candidates, each once.

        Returns:
            shape (num_rows, 1 + max_candidates): the label, and the candidates, -1 behind the last one.
        """
        index = {text: position for position, text in enumerate(all_texts)}
        targets = np.full((len(self.texts), 1 + max(map(len, self.texts), default=0)), -1, dtype=np.int64)
        targets[:, 0] = self.labels
        for row, texts in zip(targets, self.texts, strict=True):
            row[1 : 1 + len(texts)] = [index[text] for text in texts]
        return targets


def label_columns(task: Task) -> dict[str, str]:
    """Return key -> column of what a task reads beside its images."""
    keys = ["label_column", "text_column"]
    if task.choices_column is not None:
        keys = ["choices_column", "question_column", "answer_column", "answer_type_column"]
    return {key: column for key in keys if (column := getattr(task, key)) is not None}


def read_choices(task: Task, rows: Dataset) -> Choices:
    """Read the candidates of rows that `drop_bad_rows` has seen."""
    texts, labels, questions = [], [], []
    for question, given, answer in _columns(task, rows):
        questions.append(str(question))
        candidates = list(dict.fromkeys(given))  # one that is listed twice would compete with itself
        labels.append(candidates.index(given[answer] if isinstance(answer, int) else answer))
        before, after = _around(task.prompt, questions[-1])
        texts.append(tuple(f"{before}{candidate}{after}" for candidate in candidates))
    types = tuple(map(str, rows[task.answer_type_column][:])) if task.answer_type_column else None
    return Choices(
        texts=texts,
        labels=np.array(labels, dtype=np.int64),
        answer_types=types,
        questions=tuple(questions),
        prompt=task.prompt,
    )


def distinct_texts(choices: Sequence[Choices]) -> tuple[str, ...]:
    """Return the texts of all candidates, each once, in the order in which they first occur."""
    return tuple(dict.fromkeys(text for split in choices for texts in split.texts for text in texts))


def drop_bad_rows(task: Task, rows: Dataset, split: str) -> Dataset:
    """Refuse rows that cannot be answered, or leave them out and say so, as `bad_rows` of the task says.

    Raises:
        InputError: If there are any, and they are to be refused.
    """
    problems = {index: found for index, row in enumerate(_columns(task, rows)) if (found := _problem(*row))}
    if not problems:
        return rows
    shown = [f"row {index} {found}" for index, found in list(problems.items())[:NUM_SHOWN]]
    more = "; ..." if len(problems) > NUM_SHOWN else ""
    message = f"{len(problems)} of the {len(rows)} rows of the {split} split of task '{task.name}' cannot be used"
    if task.bad_rows == "refuse":
        raise InputError(f"{message}: {'; '.join(shown)}{more}. Correct them, or set `bad_rows: skip`.")
    _warn_once(f"{message} and are left out: {'; '.join(shown)}{more}.")
    return rows.select([index for index in range(len(rows)) if index not in problems])


def _problem(question: Any, choices: Any, answer: Any) -> str | None:
    """Return what is wrong with a row, or None."""
    if question is None:
        return "has no question"
    if answer is None or answer == "":
        return "has no answer"
    if not choices or any(choice is None or choice == "" for choice in choices):
        return "has no candidates" if not choices else "has an empty candidate"
    known = range(len(choices)) if isinstance(answer, int) else choices
    return None if answer in known else f"has the answer {answer!r}, which is not among its {len(choices)} candidates"


def _columns(task: Task, rows: Dataset) -> Any:
    return zip(*(rows[c][:] for c in (task.question_column, task.choices_column, task.answer_column)), strict=True)


def _around(prompt: str, question: str) -> list[str]:
    """Return what is before the answer in a prompt, and what is behind it."""
    return [part.replace("{question}", question) for part in prompt.split("{answer}")]


@cache
def _warn_once(message: str) -> None:
    logger.warning(message)  # a run reads a split more than once
