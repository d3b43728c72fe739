"""Trackers get the trainings, the curve and the final table of a run once, as its records say."""

import json
import logging

import pytest
from transformers import TrainerCallback, TrainerControl
from transformers.trainer_callback import CallbackHandler

from drawn_tasks import write_task
from hf_paint import PatchOptions, patch_sequential, patch_single
from hf_paint.patching import tracking
from hf_paint.patching.trackers import Tracker
from hf_paint.results.records import read_results
from patch_runs import arguments
from tracker_files import tensorboard_series, wandb_records


OPTIONS = PatchOptions(num_examples=0)
SHORT = {"max_steps": 2, "warmup_steps": 1, "logging_steps": 1, "save_strategy": "no", "disable_tqdm": True}


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked")
    return [write_task(folder, name, train=30, test=8, seed=seed) for seed, name in enumerate(("one", "two"))]


@pytest.fixture(scope="module")
def tracked(two, model_folder, tmp_path_factory):
    """A run that is repeated with one more alpha, and its folder."""
    folder = tmp_path_factory.mktemp("tracked") / "run"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"WANDB_MODE": "offline", "WANDB_SILENT": "true", "WANDB_PROJECT": "patches"}.items():
            patch.setenv(name, value)
        args = arguments(folder, report_to=["tensorboard", "wandb"], **SHORT)
        for alphas in ([0.5, 1.0], [0.25, 0.5, 1.0]):
            patch_single(model_folder, two[0], two[1:], args, alphas=alphas, selection="mean", options=OPTIONS)
    return folder


def accuracies(folder, split="test"):
    """Return task -> alpha -> accuracy, from the records."""
    found = {}
    for result in read_results(folder / "results.jsonl"):
        if result.split == split:
            found.setdefault(result.task, {})[result.alpha] = result.accuracy
    return found


def test_tensorboard_shows_the_curve_and_the_training_once(tracked):
    series, texts, images = tensorboard_series(tracked)
    for split in ("validation", "test"):
        for task, curve in accuracies(tracked, split).items():
            points = sorted(series[f"curve/{split}/{task}"])
            assert [step for step, _ in points] == [0, 25, 50, 100]
            assert [value for _, value in points] == pytest.approx([curve[step / 100] for step, _ in points])
    one, two = (accuracies(tracked)[name] for name in ("one", "two"))
    assert dict(series["curve_mean/test/patching"]) == pytest.approx({round(100 * x): y for x, y in one.items()})
    assert dict(series["curve_mean/test/supported"]) == pytest.approx({round(100 * x): y for x, y in two.items()})
    assert [step for step, _ in series["train/loss"]] == [1, 2]
    assert {"outcome/text_summary", "accuracy by alpha/text_summary", "recipe/text_summary"} <= texts
    assert images == {"curve"}


def test_wandb_plots_the_curve_against_alpha_in_one_run(tracked):
    rows, metrics, ids = wandb_records(tracked)
    assert len(set(ids)) == 1
    assert ids[0][1] == tracked.name
    assert metrics["curve/test/*"] == "curve/alpha"
    assert metrics["train/*"] == "train/global_step"
    for task, curve in accuracies(tracked).items():
        points = {row["curve/alpha"]: row[f"curve/test/{task}"] for row in rows if f"curve/test/{task}" in row}
        assert points == pytest.approx(curve)
    assert sorted(row["curve/alpha"] for row in rows if "curve/alpha" in row) == [0.0, 0.25, 0.5, 1.0]
    assert [row["train/global_step"] for row in rows if "train/loss" in row] == [1, 2]
    [file] = tracked.glob(f"wandb/offline-run-*/files/{rows[-2]['outcome.path']}")
    content = json.loads(file.read_text())
    assert content["columns"][:2] == ["task", "role"]
    assert [row[0] for row in content["data"]] == ["one", "two"]
    assert rows[-1]["curve.filenames"]


class Broken(Tracker):
    """A tracker without a login."""

    name = "wandb"

    def make(self, args, folder, run_id):
        raise RuntimeError("not logged in;\nrun a login first")


def test_the_steps_of_a_sequence_are_one_run_and_a_broken_tracker_costs_none(
    two, model_folder, tmp_path, caplog, monkeypatch
):
    monkeypatch.setitem(tracking.TRACKERS, "wandb", Broken)
    args = arguments(tmp_path / "run", report_to=["wandb", "tensorboard"], **SHORT)
    three = write_task(tmp_path / "data", "three", train=30, test=8, seed=3)
    with caplog.at_level(logging.WARNING, "hf_paint"):
        patch_sequential(model_folder, two, [three], args, alphas=[1.0], selection="mean", options=OPTIONS)
    said = [record.getMessage() for record in caplog.records if "reported" in record.getMessage()]
    assert said == ["Nothing more is reported to wandb, but the run goes on: not logged in; run a login first"]
    series, texts, images = tensorboard_series(tmp_path / "run")
    assert (
        [step for step, _ in series["step-1/train/loss"]]
        == [step for step, _ in series["step-2/train/loss"]]
        == [1, 2]
    )
    assert [step for step, _ in series["step-2/curve/validation/two"]] == [0, 100]
    assert "outcome/text_summary" in texts
    assert images == {"curve"}
    assert not list((tmp_path / "run").glob("*/events*"))


def test_the_callback_of_another_tracker_stops_alone(caplog):
    """`transformers` calls each event of a callback, with a control that it may change."""

    class Tracking(TrainerCallback):
        def __init__(self):
            self.steps = []

        def on_step_end(self, args, state, control, **kwargs):
            self.steps.append(state)

        def on_log(self, args, state, control, **kwargs):
            raise RuntimeError("no network")

    tracker = Tracking()
    guarded = tracking._Guarded(tracker)
    handler = CallbackHandler([guarded], None, None, None, None)
    control = TrainerControl()
    for step in range(3):
        handler.call_event("on_step_end", None, step, control)
        handler.call_event("on_log", None, step, control)
    assert tracker.steps == [0]
    said = [record.getMessage() for record in caplog.records if record.name.startswith("hf_paint")]
    assert said == ["Tracking stops, but the run goes on: no network"]
