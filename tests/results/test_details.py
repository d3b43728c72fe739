"""Details of evaluations: what their arrays mean, and what a file of them keeps."""

import base64
import json
import tracemalloc
import zlib

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from hf_paint import InputError
from hf_paint.results.calibration import Calibration
from hf_paint.results.details import Answers, Confusion, Details, sample_images
from hf_paint.results.details_log import DetailsLog, RunDetails
from hf_paint.results.records import Result


GENERATOR = np.random.default_rng(3)


def record(weights="w", of=None, **keys):
    """Return a record with the counts of some details."""
    values = {"alpha": 0.0, "task": "t", "role": "patching", "split": "test", "correct": 3, "total": 4, "data": "d"}
    if of is not None:
        values |= {"correct": int(of.calibration.correct.sum()), "total": int(of.calibration.images.sum())}
    return Result(weights=weights, **values | keys)


def details(num_images=50, num_classes=300, num_candidates=3):
    labels, predicted = GENERATOR.integers(num_classes, size=(2, num_images))
    confidence = GENERATOR.random(num_images).astype(np.float32)
    return Details(
        calibration=Calibration.of(confidence, labels == predicted),
        confusion=Confusion.of(labels, predicted),
        answers=Answers(
            images=np.sort(GENERATOR.permutation(10 * num_images)[:num_images]),
            candidates=GENERATOR.integers(-1, num_classes, size=(num_images, num_candidates)),
            probabilities=GENERATOR.random((num_images, num_candidates)).astype(np.float32),
        ),
    )


def assert_same(found, expected):
    for part in ("calibration", "confusion", "answers"):
        one, other = getattr(found, part), getattr(expected, part)
        assert (one is None) == (other is None)
        for name in () if one is None else type(one).__slots__:
            rounding = 0.5 / 65535 + 1e-7 if name == "probabilities" else 0
            np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=0, atol=rounding)


@pytest.mark.parametrize(("num_classes", "num_images"), [(2, 5), (3, 200), (300, 1000), (70000, 100)])
def test_confusion_is_the_matrix_without_its_zeros(num_classes, num_images):
    labels, predicted = GENERATOR.integers(num_classes, size=(2, num_images))
    predicted = np.where(GENERATOR.random(num_images) < 0.5, labels, predicted)
    confusion = Confusion.of(labels, predicted)
    present = np.unique([labels, predicted])
    expected = confusion_matrix(labels, predicted, labels=present)
    found = np.zeros_like(expected)
    found[np.searchsorted(present, confusion.classes), np.searchsorted(present, confusion.predicted)] = (
        confusion.images
    )
    assert np.array_equal(found, expected)
    assert confusion.images.min() > 0
    assert np.array_equal(confusion.total(num_classes)[present], expected.sum(axis=1))
    assert np.array_equal(confusion.correct(num_classes)[present], np.diag(expected))
    assert confusion.total(num_classes).sum() == num_images


def test_bins_are_those_of_the_calibration_error():
    confidence = np.concatenate([GENERATOR.random(500), np.arange(16) / 15, [0.0, 1.0]]).astype(np.float32)
    correct = GENERATOR.random(len(confidence)) < confidence
    found = Calibration.of(confidence, correct)
    error = 0.0
    for i in range(15):
        inside = [
            (float(p), bool(right))
            for p, right in zip(confidence, correct, strict=True)
            if i < float(p) * 15 <= i + 1 or (i == 0 and p == 0)
        ]
        assert (found.images[i], found.correct[i]) == (len(inside), sum(right for _, right in inside))
        assert found.confidence[i] == pytest.approx(sum(p for p, _ in inside))
        if inside:
            mean, accuracy = (sum(column) / len(inside) for column in zip(*inside, strict=True))
            error += len(inside) / len(confidence) * abs(mean - accuracy)
    assert found.ece == pytest.approx(error)


@pytest.mark.parametrize("sizes", [(50, 300, 3), (1, 1, 1), (3000, 40000, 3)])
def test_a_file_returns_what_was_written(tmp_path, sizes):
    written, log = {name: details(*sizes) for name in ("a", "b")}, DetailsLog(tmp_path / "run")
    without = Details(calibration=written["a"].calibration, confusion=None, answers=None)
    for weights, each in written.items():
        log.append(record(weights), each)
    log.append(record("a", split="validation"), without)
    read = RunDetails.of_run(tmp_path / "run")
    for weights, each in written.items():
        assert_same(read.of(record(weights, each)), each)
        assert_same(read.of(record(weights, each, alpha=0.7)), each)  # the same weights under another alpha
    assert_same(read.of(record("a", without, split="validation")), without)
    for other in ({"weights": "c"}, {"exact": False}, {"data": "a sample"}, {"precision": "bf16"}, {"role": "shift"}):
        assert read.of(record(**{"weights": "a"} | other)) is None


def test_the_best_candidates_of_an_image():
    answers = Answers(
        images=np.array([3, 8]),
        candidates=np.array([[5, 0, 2], [1, 0, -1]]),
        probabilities=np.array([[0.5, 0.25, 0.125], [0.75, 0.25, 0]], dtype=np.float32),
    )
    assert answers.of(3) == [(5, 0.5), (0, 0.25), (2, 0.125)]
    assert answers.of(8) == [(1, 0.75), (0, 0.25)]


def test_a_torn_line_is_written_again_and_no_line_twice(tmp_path):
    parts, path = [details() for _ in range(3)], tmp_path / "details.jsonl"
    log = DetailsLog(tmp_path)
    for weights, each in zip("abc", parts, strict=True):
        log.append(record(weights), each)
    whole = path.read_text()
    ends = np.cumsum([len(line) + 1 for line in whole.splitlines()])
    for length in (0, 1, ends[0] - 1, ends[0], ends[1] + 40, ends[2] - 1, ends[2]):
        path.write_text(whole[:length])
        complete = sum(end <= length for end in ends)
        read = RunDetails.of_run(tmp_path)
        assert [read.of(record(*pair)) is not None for pair in zip("abc", parts, strict=True)] == [
            i < complete for i in range(3)
        ]
        log = DetailsLog(tmp_path)
        for weights, each in zip("abc", parts, strict=True):
            log.append(record(weights), each)
        assert path.read_text() == whole


def test_runs_without_details_and_damaged_ones(tmp_path):
    assert RunDetails.of_run(tmp_path).of(record()) is None
    assert RunDetails.of_run(tmp_path / "nowhere").of(record()) is None
    written = details()
    DetailsLog(tmp_path).append(record(), written)
    path = tmp_path / "details.jsonl"
    line = json.loads(path.read_text())
    path.write_text(json.dumps(line | {"added": "by a later version"}) + "\n")
    assert RunDetails.of_run(tmp_path).of(record(of=written)) is not None
    with pytest.raises(InputError, match="are damaged: they are of 50 images"):
        RunDetails.of_run(tmp_path).of(record())
    path.write_text(json.dumps(line) + "\n{}\n")
    with pytest.raises(InputError, match="Line 2 of .* is not a valid record"):
        RunDetails.of_run(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"shape": [2**40]},
        {"shape": [2**24 + 1]},
        {"data": base64.b64encode(zlib.compress(bytes(2**22))).decode()},
        {"data": base64.b64encode(b"nothing deflated").decode()},
        {"data": "AA"},
        {"dtype": "|O"},
        {"dtype": "<f8"},
    ],
)
def test_an_array_that_claims_another_size_is_refused_before_it_fills_the_memory(tmp_path, change):
    DetailsLog(tmp_path).append(record(), details())
    path = tmp_path / "details.jsonl"
    line = json.loads(path.read_text())
    stored = dict(zip(("dtype", "shape", "data"), line["arrays"]["images"], strict=True)) | change
    line["arrays"]["images"] = list(stored.values())
    path.write_text(json.dumps(line) + "\n")
    found = RunDetails.of_run(tmp_path)
    tracemalloc.start()
    with pytest.raises(InputError, match="details of t .test. at alpha 0.00 in .* are damaged"):
        found.of(record())
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_counts_of_a_class_that_the_task_does_not_have_are_refused():
    confusion = Confusion.of(np.array([0, 10**12]), np.array([0, 1]))
    for count in (confusion.total, confusion.correct):
        with pytest.raises(InputError, match="class 1000000000000, but the task has 5 classes"):
            count(5)


def test_an_image_that_was_not_sampled_has_no_candidates():
    answers = details().answers
    others = set(range(answers.images.max() + 2)) - set(answers.images.tolist())
    assert [answers.of(image) for image in others] == [None] * len(others)


def test_a_sample_is_always_the_same_and_leaves_no_image_out():
    small, large = np.arange(7, 1500), np.flatnonzero(GENERATOR.random(9000) < 0.9)
    assert np.array_equal(sample_images(small), small)
    sample = sample_images(large)
    assert len(set(sample) & set(large)) == len(sample) == 2000
    assert np.array_equal(sample, np.sort(sample))
    assert np.array_equal(sample, sample_images(large))
    assert abs(np.mean(sample) / np.mean(large) - 1) < 0.05


def test_files_are_compact(tmp_path):
    """10,000 images of 10 classes, of which the candidates of 2,000 are stored: less than 24 kB."""
    labels = GENERATOR.integers(10, size=10000)
    predicted = np.where(GENERATOR.random(10000) < 0.8, labels, GENERATOR.integers(10, size=10000))
    images = sample_images(np.arange(10000))
    probabilities = np.sort(GENERATOR.dirichlet(np.full(10, 0.1), size=2000), axis=1)[:, :-4:-1].astype(np.float32)
    others = (predicted[images, None] + np.sort(GENERATOR.integers(1, 10, size=(2000, 2)))) % 10
    whole = Details(
        calibration=Calibration.of(probabilities[:, 0], labels[images] == predicted[images]),
        confusion=Confusion.of(labels, predicted),
        answers=Answers(
            images=images, candidates=np.column_stack([predicted[images], others]), probabilities=probabilities
        ),
    )
    DetailsLog(tmp_path).append(record(), whole)
    assert (tmp_path / "details.jsonl").stat().st_size < 24_000
