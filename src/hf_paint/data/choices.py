"""Multiple-choice rows: their candidates, the prompts for them, and the correct answers."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from datasets import ClassLabel, Dataset, Value
from numpy.typing import NDArray
from transformers.utils import logging

from hf_paint.errors import InputError
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.names import spelled


NUM_SHOWN = 3
"""Maximum number of bad rows described in a message."""
logger = logging.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Choices:
    """Questions and candidate answers for all rows of a split.

    Attributes:
        questions: Question of each row.
        candidates: Distinct candidates of each row.
        texts: Prompts for these candidates, with the question and candidate filled in.
        labels: shape (num_rows,), position of the correct answer among the candidates of its row.
        answer_types: Answer type of each row; None if the task has no `answer_type_column`.
    """

    questions: tuple[str, ...]
    candidates: tuple[tuple[str, ...], ...]
    texts: tuple[tuple[str, ...], ...]
    labels: NDArray[np.int64]
    answer_types: tuple[str, ...] | None

    def select(self, rows: NDArray[np.int64]) -> "Choices":
        """Return the questions and candidates of some rows, given their indices."""
        return Choices(
            questions=tuple(self.questions[row] for row in rows),
            candidates=tuple(self.candidates[row] for row in rows),
            texts=tuple(self.texts[row] for row in rows),
            labels=self.labels[rows],
            answer_types=None if self.answer_types is None else tuple(self.answer_types[row] for row in rows),
        )

    def targets(self, all_texts: Sequence[str]) -> NDArray[np.int64]:
        """Return the labels that a `CandidateHead` expects: the label of each row and the indices of its candidates.

        Args:
            all_texts: Distinct prompts of all candidates, in the order of the head's rows.

        Returns:
            shape (num_rows, 1 + max_candidates): the label, followed by the candidates' indices in `all_texts`, padded
            with -1.
        """
        index = {text: position for position, text in enumerate(all_texts)}
        targets = np.full((len(self.texts), 1 + max(map(len, self.texts), default=0)), -1, dtype=np.int64)
        targets[:, 0] = self.labels
        for row, texts in zip(targets, self.texts, strict=True):
            row[1 : 1 + len(texts)] = [index[text] for text in texts]
        return targets


def read_choices(task: MultipleChoiceTask, rows: Dataset) -> Choices:
    """Read questions and candidates from rows that have been checked by `find_good_rows`."""
    questions, candidates, labels = [], [], []
    for question, choices, answer in _columns(task, rows):
        distinct = tuple(dict.fromkeys(choices))  # otherwise a candidate listed twice would compete with itself
        questions.append(str(question))
        candidates.append(distinct)
        labels.append(distinct.index(choices[answer] if type(answer) is int else answer))
    texts = (tuple(task.text(q, choice) for choice in row) for q, row in zip(questions, candidates, strict=True))
    return Choices(
        questions=tuple(questions),
        candidates=tuple(candidates),
        texts=tuple(texts),
        labels=np.array(labels, dtype=np.int64),
        answer_types=tuple(map(str, rows[task.answer_type_column][:])) if task.answer_type_column else None,
    )


def distinct_texts(choices: Sequence[Choices]) -> tuple[str, ...]:
    """Return the distinct prompts of all candidates, in order of first occurrence."""
    return tuple(dict.fromkeys(text for split in choices for texts in split.texts for text in texts))


def name_answers(task: MultipleChoiceTask, rows: Dataset) -> Dataset:
    """Return the rows with answers as text if they are numbers or classes that are candidates themselves.

    Numbers are positions unless, in every row, they are one of the candidates.

    Raises:
        InputError: If the numbers could be either.
    """
    feature, column = rows.features[task.answer_column], task.answer_column
    names = feature.names if isinstance(feature, ClassLabel) else None
    answers = rows[column][:]
    if all(isinstance(answer, str) for answer in answers if answer is not None):
        return rows
    texts = [
        None if answer is None else spelled(names[answer]) if names and answer >= 0 else str(answer)
        for answer in answers
    ]
    triples = [
        triple for triple in zip(answers, texts, _candidates(task, rows), strict=True) if triple[1] and triple[2]
    ]
    if not all(text in choices for _, text, choices in triples):
        return rows
    if all(type(answer) is int and 0 <= answer < len(choices) for answer, _, choices in triples):
        if all(choices[answer] == text for answer, text, choices in triples):
            return rows
        if names is None:
            raise InputError(
                f"The numbers in '{column}' of task '{task.name}' could be positions or candidates. Write the answers "
                "as text."
            )
    return rows.remove_columns(column).add_column(column, texts, feature=Value("string"))


def find_good_rows(task: MultipleChoiceTask, rows: Dataset, split: str) -> NDArray[np.int64] | None:
    """Return the indices of the usable rows if some are not and the task sets `bad_rows: skip`, or None if all are.

    Raises:
        InputError: If there are unusable rows and the task sets `bad_rows: refuse`.
    """
    problems = {index: problem for index, row in enumerate(_columns(task, rows)) if (problem := _problem(*row))}
    if not problems:
        return None
    examples = "; ".join(f"row {index} {problem}" for index, problem in list(problems.items())[:NUM_SHOWN])
    examples += "; ..." if len(problems) > NUM_SHOWN else ""
    message = f"{len(problems)} of the {len(rows)} rows of the {split} split of task '{task.name}' cannot be used"
    if task.bad_rows == "refuse":
        raise InputError(f"{message}: {examples}. Correct them, or set `bad_rows: skip`.")
    logger.warning_once(f"{message} and are skipped: {examples}.")  # splits are read several times in a run
    return np.array([index for index in range(len(rows)) if index not in problems], dtype=np.int64)


def _problem(question: str | None, choices: Sequence[str | None] | None, answer: str | int | None) -> str | None:
    """Return what is wrong with a row, or None if it is usable."""
    if question is None:
        return "has no question"
    if answer is None or answer == "":
        return "has no answer"
    if not choices:
        return "has no candidates"
    if any(choice is None or choice == "" for choice in choices):
        return "has an empty candidate"
    if answer not in (range(len(choices)) if type(answer) is int else choices):
        return f"has the answer {answer!r}, which is not one of its {len(choices)} candidates"
    return None


def _columns(task: MultipleChoiceTask, rows: Dataset) -> Iterator[tuple[str, Sequence[str], str | int]]:
    """Yield the question, the candidates and the answer (its text or position) of each row."""
    questions, answers = rows[task.question_column][:], rows[task.answer_column][:]
    texts = (spelled(answer) if isinstance(answer, str) else answer for answer in answers)
    return zip(questions, _candidates(task, rows), texts, strict=True)


def _candidates(task: MultipleChoiceTask, rows: Dataset) -> list[list[str]]:
    """Return the candidates of each row as text; missing ones are empty."""
    return [
        ["" if choice is None else spelled(str(choice)) for choice in choices or ()]
        for choices in rows[task.choices_column][:]
    ]
