"""VQA v1 and v2: questions and annotations from visualqa.org as rows for a multiple-choice task."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import numpy as np
from datasets import Dataset, Features, Image, List, Value

from hf_paint.documents.reading import read_json
from hf_paint.documents.shapes import shaped
from hf_paint.errors import InputError


LARGEST_FILE = 2**30
"""Size of the largest file of questions or annotations, in bytes."""


NUM_CHOICES = 18
"""Number of candidates per question in VQA v1 (Antol et al., 2015, Section 3)."""
NUM_POPULAR = 10
"""How many of the candidates are the most popular answers."""
FEATURES = Features(
    {
        "image": Image(),
        "image_id": Value("int64"),
        "question_id": Value("int64"),
        "question": Value("string"),
        "choices": List(Value("string")),
        "answer": Value("string"),
        "answer_type": Value("string"),
    }
)


class Question(TypedDict):
    """An entry in a questions file."""

    question: str
    question_id: int
    image_id: int
    multiple_choices: NotRequired[list[str]]


class Annotation(TypedDict, total=False):
    """An entry in an annotations file."""

    question_id: int
    multiple_choice_answer: str
    answer_type: str


def read_vqa(
    questions: str | Path,
    annotations: str | Path,
    images: str | Path,
    *,
    num_choices: int = NUM_CHOICES,
    seed: int = 0,
) -> Dataset:
    """Read VQA questions with candidate answers.

    The multiple-choice files of VQA v1 list 18 candidates for each question. VQA v2 has no such lists. For its
    questions, the candidates are the correct answer, the ten most popular answers in the annotations file, and random
    other answers from that file.

    Args:
        questions: Questions file, for instance `MultipleChoice_mscoco_train2014_questions.json`.
        annotations: Annotations file, for instance `mscoco_train2014_annotations.json`.
        images: Image folder; each file name must end in the image id, as in `COCO_train2014_000000000042.jpg`.
        num_choices: Number of candidates for questions that do not list any.
        seed: Random seed for the candidates. A question's candidates depend only on the seed, its id and the
            annotations.

    Returns:
        Rows with the columns `image`, `image_id`, `question_id`, `question`, `choices`, `answer` and `answer_type`.
        Save them with `to_parquet` and use them in a task with `choices_column: choices` and
        `group_column: image_id`. Questions without an annotation have no answer; `bad_rows` of the task determines
        whether they raise an error or are skipped.

    Raises:
        InputError: If a file is not in VQA format, or an image is missing.

    Example:
        >>> import json
        >>> question = {"image_id": 42, "question_id": 7, "question": "Is it red?", "multiple_choices": ["yes", "no"]}
        >>> _ = (tmp_path / "q.json").write_text(json.dumps({"questions": [question]}))
        >>> answer = {"question_id": 7, "multiple_choice_answer": "yes", "answer_type": "yes/no"}
        >>> _ = (tmp_path / "a.json").write_text(json.dumps({"annotations": [answer]}))
        >>> (tmp_path / "COCO_000042.jpg").touch()
        >>> read_vqa(tmp_path / "q.json", tmp_path / "a.json", tmp_path)["choices"][:]
        [['yes', 'no']]
    """
    annotation_of = {entry["question_id"]: entry for entry in _read_annotations(annotations)}
    popular = _popular_answers(annotation_of.values())
    files = _image_files(Path(images))
    rows = []
    for question in _read_questions(questions):
        annotation = annotation_of.get(question["question_id"], {})
        answer, image_id = annotation.get("multiple_choice_answer"), question["image_id"]
        if image_id not in files:
            raise InputError(
                f"Image {image_id} of question {question['question_id']} is not in {images}. Download the images of "
                "the same split as the questions."
            )
        choices = question.get("multiple_choices")
        if choices is None:
            choices = _sample(answer, popular, num_choices, np.random.default_rng((seed, question["question_id"])))
        rows.append(
            {
                "image": str(files[image_id]),
                "image_id": image_id,
                "question_id": question["question_id"],
                "question": question["question"],
                "choices": choices,
                "answer": answer,
                "answer_type": annotation.get("answer_type"),
            }
        )
    return Dataset.from_list(rows, features=FEATURES)


def _popular_answers(annotations: Iterable[Annotation]) -> list[str]:
    """Return the distinct answers, most popular first."""
    counts = Counter(entry.get("multiple_choice_answer") for entry in annotations)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    return [answer for answer, _ in ordered if answer]


def _sample(answer: str | None, popular: Sequence[str], count: int, rng: np.random.Generator) -> list[str]:
    """Return the answer, the most popular other answers and random other answers, shuffled."""
    best = [other for other in popular[: NUM_POPULAR + 1] if other != answer][: min(NUM_POPULAR, count - 1)]
    drawn = (popular[index] for index in rng.choice(len(popular), min(len(popular), count), replace=False))
    rest = [other for other in drawn if other != answer and other not in best][: count - 1 - len(best)]
    choices = [*([answer] if answer else []), *best, *rest]
    return [choices[index] for index in rng.permutation(len(choices))]


def _read_questions(path: str | Path) -> list[Question]:
    return cast(list[Question], _read_entries(path, "questions", ["question", "question_id", "image_id"]))


def _read_annotations(path: str | Path) -> list[Annotation]:
    return cast(list[Annotation], _read_entries(path, "annotations", ["question_id"]))


def _read_entries(path: str | Path, key: str, needed: Sequence[str]) -> list[dict[str, object]]:
    content = read_json(Path(path), limit=LARGEST_FILE)
    if content is None or key not in content:
        raise InputError(f"{path} is not a VQA file with the key '{key}'.")
    entries = shaped(content[key], list[dict[str, object]], f"{path}", advice="Use the file from visualqa.org.")
    for name in needed:
        if not entries or not all(name in entry for entry in entries):
            raise InputError(
                f"{path} is not a VQA {key} file: every entry in `{key}` needs the key '{name}'. Use the file from "
                "visualqa.org."
            )
    return entries


def _image_files(folder: Path) -> dict[int, Path]:
    """Return image id -> file; the id is the number at the end of the file name."""
    if not folder.is_dir():
        raise InputError(f"The image folder {folder} does not exist.")
    matches = ((re.search(r"(\d+)$", path.stem), path) for path in sorted(folder.iterdir()))
    return {int(match[1]): path for match, path in matches if match}
