"""Answers of multiple-choice tasks are candidates by name, or positions where no name is meant."""

import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, Value

from digits import DIGITS, IMAGES, NAMES, REVERSED, count_correct, evaluate
from hf_paint import InputError, Task
from hf_paint.data.splits import load_splits


TEXTS, NUMBER = List(Value("string")), Value("int64")
NEXT = [[str(digit), str((digit + 1) % 10)] for digit in range(10)]


def write_task(folder, name, choices, answers, feature, answer_feature):
    """Definition of a task whose choices and answers depend on the digit in the picture."""
    columns = {
        "image": IMAGES,
        "question": ["which number?"] * len(IMAGES),
        "choices": [choices[digit] for digit in DIGITS],
        "answer": [answers[digit] for digit in DIGITS],
    }
    features = {"image": Image(), "question": Value("string"), "choices": feature, "answer": answer_feature}
    path = folder / f"{name}.parquet"
    Dataset.from_dict(columns, features=Features(features)).to_parquet(str(path))
    keys = {"choices_column": "choices", "prompt": 'a photo of the number: "{answer}".', "templates": ["{}"]}
    splits = {"train": None, "validation": None}
    return {"dataset": "parquet", "data_files": {"test": str(path)}, "splits": splits} | keys


def test_every_picture_has_its_answer(tmp_path, capsys):
    cases = {
        "texts": ([NAMES] * 10, NAMES, TEXTS, Value("string")),
        "positions": ([REVERSED] * 10, range(9, -1, -1), TEXTS, ClassLabel(names=list("ABCDEFGHIJ"))),
        "classes": ([REVERSED] * 10, range(10), TEXTS, ClassLabel(names=NAMES)),
        "either": ([NAMES] * 10, range(10), TEXTS, NUMBER),
        "numbers": (NEXT, range(10), TEXTS, NUMBER),
        "columns": ([list(map(int, row)) for row in NEXT], range(10), List(NUMBER), NUMBER),
    }
    tasks = {name: write_task(tmp_path, name, *case) for name, case in cases.items()}
    code, found, error = evaluate(tmp_path, capsys, **tasks)
    assert code == 0, error
    total, correct = count_correct()
    assert found == dict.fromkeys(cases, (total, 100 * correct / total))


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (([REVERSED] * 10, range(10), TEXTS, NUMBER), "could be positions or candidates. Write the answers as text"),
        (
            (["0123456789"] * 10, NAMES, Value("string"), Value("string")),
            "holds Value.*, but `choices_column`",
        ),
        (([NAMES] * 10, [[name] for name in NAMES], TEXTS, TEXTS), "one text or number per row. Correct `answer_col"),
        (([["yes", "no"]] * 10, [True, False] * 5, TEXTS, Value("bool")), "has the answer True, which is not one"),
    ],
)
def test_answers_that_cannot_be_told(tmp_path, case, message):
    with pytest.raises(InputError, match=message):
        load_splits(Task.from_dict({"name": "t"} | write_task(tmp_path, "t", *case)))
