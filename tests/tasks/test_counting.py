"""Counting: the classes are numbers, some of them absent from training (PAINT, case studies)."""

import json
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset

from browser import check_page
from drawn_tasks import draw_rows, write_task
from hf_paint import AlphaCurve, InputError, PatchOptions, Task, evaluate_tasks, patch_single
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.predictions import Predictions, score
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.results.records import Result
from hf_paint.tasks.counting import count_values
from hf_paint.tasks.scene_tasks import COUNTS, write_counting_task, write_shapes_task
from hf_paint.tasks.scenes import SceneStyle
from patch_runs import arguments
from report_checks import checked_report


SIZES = {"train": 32, "validation": 16, "test": 16}
STYLE = SceneStyle(image_size=32)
SEEN, UNSEEN = ["four", "five", "six", "eight", "nine"], ["three", "seven", "ten"]


@pytest.fixture(scope="module")
def counting(tmp_path_factory):
    return write_counting_task(tmp_path_factory.mktemp("counting"), sizes=SIZES, style=STYLE)


def part(task, name, **keys):
    return Task.from_dict(task.to_dict() | {"name": name} | keys)


def test_files_follow_from_the_arguments(counting, tmp_path):
    again = write_counting_task(tmp_path, sizes=SIZES, style=STYLE)
    for split, path in counting.data_files.items():
        rows, same = Dataset.from_parquet(path), Dataset.from_parquet(again.data_files[split])
        assert rows["label"][:] == same["label"][:] == [i % 8 for i in range(SIZES[split])]
        assert all(np.array_equal(a, b) for a, b in zip(rows["image"][:], same["image"][:], strict=True))
    train, test = (Dataset.from_parquet(counting.data_files[split])["image"][:] for split in ("train", "test"))
    assert not any(np.array_equal(a, b) for a in train for b in test)
    other = write_counting_task(tmp_path, sizes=SIZES, style=STYLE, seed=1)
    assert not set(other.data_files.values()) & set(again.data_files.values())


def test_rows_of_some_counts_and_the_head_of_all_or_of_their_own(counting):
    seen, own, unseen = (
        load_splits(part(counting, name, **keys))
        for name, keys in {
            "seen": {"only_classes": SEEN},
            "own": {"only_classes": SEEN, "own_head": True},
            "unseen": {"only_classes": UNSEEN},
        }.items()
    )
    assert seen["train"].class_names == unseen["test"].class_names == COUNTS
    assert own["train"].class_names == tuple(SEEN)
    for split, size in SIZES.items():
        assert set(seen[split].labels()) == {1, 2, 3, 5, 6}
        assert set(own[split].labels()) == {0, 1, 2, 3, 4}
        assert set(unseen[split].labels()) == {0, 4, 7}
        assert len(seen[split].rows) == len(own[split].rows) == size * 5 // 8
        names = [[COUNTS[i] for i in seen[split].labels()], [SEEN[i] for i in own[split].labels()]]
        assert names[0] == names[1]
    assert len({splits["test"].fingerprint for splits in (seen, own, unseen)}) > 1


def test_rows_of_some_classes_of_a_stream(tmp_path):
    task = write_task(tmp_path, streaming=True, splits={"validation": None}, only_classes=["blue"])
    split = load_splits(task, ("test",))["test"]
    labels = [split.class_id(row["label"]) for row in split.rows]
    assert split.class_names == ("red", "green", "blue", "grey")
    assert labels == [2] * draw_rows(40, 1)["label"].count(2)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"only_classes": ["fore"]},
            "`only_classes` of task 't' contains 'fore'.*one of its 8.*Did you mean 'four'",
        ),
        ({"only_classes": ["four", "four"]}, "'four' twice"),
        ({"only_classes": "four"}, "`only_classes` must be a list"),
        ({"own_head": True}, "`own_head` of task 't' requires `only_classes`"),
        ({"class_names": ["many", *COUNTS[1:]]}, "class names of a counting task must be numbers.*got 'many'"),
    ],
)
def test_bad_keys_are_named(counting, keys, message):
    with pytest.raises(InputError, match=message):
        load_splits(part(counting, "t", **keys))


def test_labels_that_are_no_counts_are_found_before_training(tmp_path):
    with pytest.raises(InputError, match="got 'red'"):
        load_splits(write_task(tmp_path, counting=True))


def test_count_values():
    assert count_values(COUNTS).tolist() == [*range(3, 11)]
    assert count_values(["0", "Twenty ", "100"]).tolist() == [0, 20, 100]
    with pytest.raises(InputError, match="got '-1'"):
        count_values(["-1"])


def test_mean_absolute_error_is_that_of_the_counts(counting, model, processor):
    task = prepare_task(counting, model, processor, splits=("test",))
    generator = np.random.default_rng(0)
    labels, predicted = generator.integers(8, size=(2, 50))
    ones = np.ones(50, dtype=np.float32)
    scores = score(Predictions(labels, predicted, ones, ones), task, "test")
    assert scores.mean_absolute_error == pytest.approx(np.abs(labels - predicted).mean(), abs=1e-12)
    shuffled = replace(task, class_names=("ten", "3", "four", "five", "nine", "eight", "seven", "six"))
    values = np.array([10, 3, 4, 5, 9, 8, 7, 6])
    scores = score(Predictions(labels, predicted, ones, ones), shuffled, "test")
    assert scores.mean_absolute_error == pytest.approx(np.abs(values[labels] - values[predicted]).mean(), abs=1e-12)
    result = Result(alpha=0.0, task="counting", role="patching", split="test", **scores.to_dict())
    assert Result.from_json(result.to_json()) == result


def test_other_tasks_have_none(task, model, processor):
    assert evaluate_tasks(model, [task], processor=processor)[0].mean_absolute_error is None


def test_patched_on_some_counts_and_measured_on_others(counting, model_folder, tmp_path):
    shapes = write_shapes_task(tmp_path / "shapes", sizes={"validation": 12, "test": 12}, style=STYLE)
    seen = part(counting, "seen", only_classes=SEEN, own_head=True)
    unseen = part(counting, "unseen", only_classes=UNSEEN)
    options = PatchOptions(transfer_tasks=[unseen])
    result = patch_single(
        model_folder, seen, [shapes], arguments(tmp_path / "run"), alphas=[0, 0.5, 1], options=options
    )
    curve = AlphaCurve.from_run(tmp_path / "run")
    for alpha in (0.0, 0.5, 1.0):
        found = curve.get(alpha, "transfer", "unseen", "test")
        assert found.total == 6
        assert 0 <= found.mean_absolute_error <= 7
        assert curve.get(alpha, "supported", "shapes", "test").mean_absolute_error is None
    shown = f"MAE {curve.get(result.alpha, 'transfer', 'unseen', 'test').mean_absolute_error:.2f}"
    card = (tmp_path / "run" / "patched" / "README.md").read_text()
    assert shown in curve.to_markdown("test")
    assert shown in card
    assert "MAE is the mean absolute error of the predicted count." in card
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    assert {line["task"] for line in lines if line["mean_absolute_error"] is not None} == {"seen", "unseen"}
    run = checked_report(tmp_path / "run")["runs"][0]
    check_page(tmp_path / "run", run)
    errors = [curve.get(alpha, "transfer", "unseen", "test").mean_absolute_error for alpha in (0.0, 0.5, 1.0)]
    assert run["tasks"][2]["metrics"]["mean_absolute_error"] == errors
    assert "MAE is the mean absolute error of the predicted count." in run["notes"]
