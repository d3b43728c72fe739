"""Curves written to card metadata and read back."""

import json
from dataclasses import replace

import pytest
import yaml

from hf_paint import AlphaCurve, InputError
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve_metadata import curve_from_metadata, curve_to_metadata
from hf_paint.results.records import Result


WHERE = {"task": "signs", "role": "patching", "split": "test", "total": 10}
RECORDS = [
    Result(alpha=0.0, correct=5, attack_success=4, **WHERE),
    Result(alpha=0.5, correct=7, attack_success=2, exact=False, **WHERE),
    Result(alpha=1.0, correct=9, attack_success=0, **WHERE),
    Result(alpha=0.0, correct=4, **WHERE | {"split": "validation", "total": 8}),
    Result(alpha=0.0, correct=3, mean_absolute_error=0.5, **WHERE | {"task": "counts", "role": "supported"}),
    Result(alpha=1.0, correct=2, answer_types={"yes/no": [1, 4], "other": [1, 6]}, **WHERE | {"task": "questions"}),
]


def as_set(curve):
    return {json.dumps(json.loads(result.to_json()), sort_keys=True) for result in curve.results}


def test_written_and_read_as_yaml_it_is_the_same_curve():
    curve = AlphaCurve(RECORDS)
    metadata = yaml.safe_load(yaml.safe_dump(curve_to_metadata(curve)))
    assert as_set(curve_from_metadata(metadata)) == as_set(curve)


def test_one_line_of_numbers_for_each_task_and_split():
    metadata = curve_to_metadata(AlphaCurve(RECORDS))
    lines = {(entry["task"], entry["split"]): (entry["correct"], entry["total"]) for entry in metadata["tasks"]}
    assert metadata["alphas"] == "0.0 0.5 1.0"
    assert lines == {
        ("signs", "test"): ("5 ~7 9", "10 10 10"),
        ("signs", "validation"): ("4 - -", "8 - -"),
        ("counts", "test"): ("3 - -", "10 - -"),
        ("questions", "test"): ("- - 2", "- - 10"),
    }


def test_coefficients_are_a_list():
    alphas = [Coefficients({"a": 0.0, "b": 0.0}), Coefficients({"a": 0.3, "b": 0.5})]
    curve = AlphaCurve(replace(RECORDS[0], alpha=alpha) for alpha in alphas)
    metadata = curve_to_metadata(curve)
    assert metadata["alphas"] == [{"a": 0.0, "b": 0.0}, {"a": 0.3, "b": 0.5}]
    assert as_set(curve_from_metadata(metadata)) == as_set(curve)


@pytest.mark.parametrize(
    "damage", [{"alphas": None}, {"tasks": [{"task": "signs"}]}, {"tasks": None}, {"alphas": "0.0 0.5 1.0 2.0"}]
)
def test_damaged_metadata_is_refused(damage):
    with pytest.raises(InputError):
        curve_from_metadata(curve_to_metadata(AlphaCurve(RECORDS)) | damage)
