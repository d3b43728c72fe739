import json

import numpy as np
import pytest

from hf_paint import InputError
from hf_paint.results.alphas import format_alpha
from hf_paint.results.records import Result, read_results
from hf_paint.results.result_log import ResultLog


def record(alpha=0.0, **keys):
    values = {"task": "t", "role": "patching", "split": "test", "correct": 3, "total": 4, "weights": f"w{alpha}"}
    return Result(alpha=alpha, **values | keys)


def test_a_record_holds_what_is_promised():
    values = json.loads(record(mean_per_class=0.5, loss=1.0, ece=0.1, head="h").to_json())
    promised = {"alpha", "task", "role", "split", "correct", "total", "accuracy", "mean_per_class", "loss", "ece"}
    assert promised | {"weights", "head"} <= set(values)
    assert values["accuracy"] == 0.75


def test_round_trip_and_unknown_keys(tmp_path):
    result = record(correct_file="correct/x.npy")
    assert Result.from_json(result.to_json()) == result
    assert Result.from_json(json.dumps(json.loads(result.to_json()) | {"later": 1})) == result


def test_append_is_on_disk_at_once_and_known_afterwards(tmp_path):
    log = ResultLog(tmp_path / "run")
    log.append(record(correct_file="correct/x.npy"), np.array([True, True, True, False]))
    again = ResultLog(tmp_path / "run")
    assert again.find(record().key) == log.find(record().key)
    assert again.find(record(split="validation").key) is None
    assert np.load(tmp_path / "run" / "correct" / "x.npy").sum() == 3


def test_a_torn_line_is_dropped_and_the_next_append_is_whole(tmp_path):
    ResultLog(tmp_path).append(record(0.0))
    path = tmp_path / "results.jsonl"
    path.write_text(path.read_text() + record(0.5).to_json()[:40])
    assert [r.alpha for r in read_results(path)] == [0.0]
    ResultLog(tmp_path).append(record(0.5))
    assert [r.alpha for r in read_results(path)] == [0.0, 0.5]


def test_a_process_that_does_not_write_knows_the_same(tmp_path):
    log = ResultLog(tmp_path, write=False)
    log.append(record())
    assert log.find(record().key) is not None
    assert not (tmp_path / "results.jsonl").exists()


def test_bad_files_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        read_results(tmp_path / "results.jsonl")
    (tmp_path / "results.jsonl").write_text('{"alpha": 0}\n')
    with pytest.raises(InputError, match="Line 1 of .* is not a valid record"):
        read_results(tmp_path / "results.jsonl")


@pytest.mark.parametrize(("alpha", "text"), [(0, "0.00"), (0.3, "0.30"), (0.125, "0.125"), (1, "1.00"), (1.5, "1.50")])
def test_format_alpha(alpha, text):
    assert format_alpha(alpha) == text
