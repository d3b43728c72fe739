"""Damaged records, per-image files, details and JSON files: evaluated again by a run, named by all that only reads."""

import json
import shutil

import numpy as np
import pytest
import yaml

from hf_paint import AlphaCurve, InputError
from hf_paint.cli.main import main
from hf_paint.files import write_json
from hf_paint.report.building import report_of
from hf_paint.results.records import Result, read_results
from hf_paint.results.result_log import ResultLog
from run_folders import write_run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    write_run(folder, images=40, split="validation")
    for path in (folder / "results.jsonl", folder / "details.jsonl"):
        path.write_text("".join(dict.fromkeys(path.read_text().splitlines(keepends=True))))
    return folder


@pytest.fixture
def run(made, tmp_path):
    return shutil.copytree(made, tmp_path / "run")


BAD = {
    "more correct than images": {"correct": 500},
    "negative": {"correct": -1},
    "no images": {"total": 0},
    "a count as text": {"total": "40"},
    "a fraction": {"correct": 3.5},
    "true": {"correct": True},
    "alpha NaN": {"alpha": float("nan")},
    "alpha as text": {"alpha": "much"},
    "alpha in the clouds": {"alpha": 1e300},
    "coefficients as text": {"alpha": {"a": "b"}},
    "an unknown role": {"role": "other"},
    "a list as a task": {"task": []},
    "no task": {"task": ""},
    "other accuracy": {"accuracy": 0.123},
    "no probability": {"mean_per_class": 7.0},
    "more attacks than images": {"attack_success": 41},
    "answer types": {"answer_types": {"a": [3, 2]}},
    "drawn from fewer": {"drawn_from": 3},
    "a file outside": {"examples": "../other.npy"},
    "a number that is too long": {"correct": 10**40},
}


def change(path, number, keys):
    lines = path.read_text().splitlines()
    lines[number] = json.dumps(json.loads(lines[number]) | keys)
    path.write_text("".join(f"{line}\n" for line in lines))


def key_of(path, number):
    result = Result.from_json(path.read_text().splitlines()[number])
    return result.key, result.alpha


def mended(run, caplog):
    """Return the log of a run that goes on, which says in one line what it drops."""
    log = ResultLog(run, mend=True)
    said = [message for message in caplog.messages if "results.jsonl is dropped" in message]
    assert len(said) == 1
    assert "\n" not in said[0]
    return log


@pytest.mark.parametrize("keys", BAD.values(), ids=BAD)
def test_a_record_that_cannot_be(run, caplog, capsys, keys):
    path = run / "results.jsonl"
    key = key_of(path, 2)
    whole = path.read_text().splitlines()
    change(path, 2, keys)
    with pytest.raises(InputError, match=r"^Line 3 of \S+ is not a valid record: [^\n]+ Run the same"):
        read_results(path)
    assert main(["select", str(run), "--selection", "mean", "--dry_run"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "Line 3 of" in line
    assert mended(run, caplog).find(*key) is None
    assert path.read_text().splitlines() == whole[:2] + whole[3:]
    assert len(read_results(path)) == len(whole) - 1


@pytest.mark.parametrize("line", [b"\xff\x80", b"{}", b"[1]", b"null", b"", b'{"alpha": ' + b"[" * 5000, b"9" * 5000])
def test_a_line_that_is_no_record(run, caplog, line):
    path = run / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(line + b"\n" + whole)
    with pytest.raises(InputError, match=r"^Line 1 of \S+ is not a valid record: [^\n]+$"):
        AlphaCurve.from_run(run)
    mended(run, caplog)
    assert path.read_bytes() == whole


def test_records_that_contradict_each_other_are_both_dropped(run, caplog):
    path = run / "results.jsonl"
    whole = path.read_text().splitlines()
    other = json.loads(whole[0])
    other |= {"correct": other["correct"] - 1, "accuracy": (other["correct"] - 1) / 40}
    path.write_text("".join(f"{line}\n" for line in [*whole, whole[1], json.dumps(other)]))
    with pytest.raises(InputError, match=f"lines 1 and {len(whole) + 2} contradict each other"):
        read_results(path)
    mended(run, caplog)
    assert path.read_text().splitlines() == [*whole[1:], whole[1]]


def no_file(path):
    path.unlink()


def shorter(path):
    np.save(path, np.load(path)[:-1])


def flipped(path):
    correct = np.load(path)
    correct[0] = ~correct[0]
    np.save(path, correct)


def pickled(path):
    np.save(path, np.array([{}]), allow_pickle=True)


def numbers(path):
    np.save(path, np.load(path).astype(np.int64))


def truncated(path):
    path.write_bytes(path.read_bytes()[:-5])


def emptied(path):
    path.write_bytes(b"")


def of_terabytes(path):
    with path.open("wb") as file:
        header = {"descr": "|b1", "fortran_order": False, "shape": (10**13,)}
        np.lib.format.write_array_header_1_0(file, header)


def a_zip(path):
    path.write_bytes(b"PK\x03\x04 no archive")


@pytest.mark.parametrize(
    "damage", [no_file, shorter, flipped, pickled, numbers, truncated, emptied, of_terabytes, a_zip]
)
def test_a_per_image_file_that_is_not_the_record_s(run, caplog, damage):
    path = run / "results.jsonl"
    record = read_results(path)[-1]
    damage(run / record.correct_file)
    with pytest.raises(InputError, match=r"^The record of [^\n]+ is damaged: [^\n]+ Run the same `hf-paint patch`"):
        AlphaCurve.from_run(run).gains(record.alpha, record.split)
    before = read_results(run / "results.jsonl")
    log = mended(run, caplog)
    assert log.find(record.key, record.alpha) is None
    assert len(log.results) == len(before) - 1


def test_a_run_without_any_per_image_file_has_no_intervals(run):
    shutil.rmtree(run / "correct")
    gains = AlphaCurve.from_run(run).gains(1.0, "validation")
    assert gains
    assert all(gain.interval is None for gain in gains)


@pytest.mark.parametrize(
    "keys",
    [
        {"bins": 5},
        {"bins": {"images": [1], "confidence": [1.0], "correct": [1]}},
        {"arrays": {"classes": ["<q", [3], "AAAA"]}},
        {"arrays": {"classes": [1, 2]}},
        {"weights": None},
    ],
)
def test_damaged_details_are_evaluated_again_with_their_record(run, caplog, keys):
    path = run / "details.jsonl"
    whole, first = path.read_text().splitlines(), read_results(run / "results.jsonl")[0]
    change(path, 0, keys)
    log = ResultLog(run, mend=True)
    assert log.find(first.key, first.alpha) is None
    assert len(caplog.messages) == 2  # of the line and of its record
    assert path.read_text().splitlines() == whole[1:]
    again = ResultLog(run, mend=True)
    assert len(again.results) == len(log.results)


JSON_FILES = {
    "selection.json": [{}, {"alpha": "x"}, {"alpha": 1.0, "rule": 5}],
    "card.json": [{"class_names": 5}, {"versions": [1]}, {"num_processes": "two"}],
    "orders.json": [{}, {"split": "test", "orders": 5, "tasks": []}],
    "tasks.json": [{"tasks": 5}, {"tasks": [{"name": "a"}]}, {"tasks": [5]}],
    "changes.json": [{}, {"models": ["a"], "products": {"all": [[1.0]]}}, {"models": 5, "products": {}}],
    "scores.json": [{"a": "b"}, {"a": None}],
    "coefficients.json": [{"all tensors": 0.3}, {"all tensors": {"a": "b"}}],
    "robustness.json": [{"weights": 5}],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in JSON_FILES.items() for value in values])
def test_a_json_file_of_another_shape_is_named(run, name, value):
    write_json(run / name, value)
    with pytest.raises(InputError, match=r"^[^\n]+$") as caught:
        report_of([run])
    assert name in str(caught.value) or "matrices" in str(caught.value)


@pytest.mark.parametrize("values", [{"patching_tasks": 3}, {"model": []}, {"alphas": ["a"]}, {"method": 1}])
def test_a_recipe_with_values_that_no_run_writes_is_named(run, values, capsys):
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe | values))
    for command in (["report", str(run)], ["compare", str(run)], ["push", str(run), "--repo_id", "me/x"]):
        assert main(command) == 2
        assert f"recipe.yaml is damaged: `{next(iter(values))}" in capsys.readouterr().err
