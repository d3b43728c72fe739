"""Runs with `max_eval_images`: records of a sample and of whole splits are never mixed."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import yaml

from drawn_tasks import write_task
from hf_paint import AlphaCurve, InputError, PatchOptions, patch_single
from hf_paint.data.samples import sample_splits
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.hub import card_metadata
from hf_paint.hub.card_source import CardSource
from hf_paint.patching import fine_tuning, progress
from hf_paint.results.change_text import measured_images
from hf_paint.results.choice_text import claim
from hf_paint.results.comparison import compare_runs
from hf_paint.results.curve_metadata import curve_from_metadata, curve_to_metadata
from hf_paint.results.resuming import conflicts
from hf_paint.results.run_folder import RunFolder
from patch_runs import arguments


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder, name, train=60, test=20, seed=seed) for seed, name in enumerate(("colours", "others"))]


@pytest.fixture(scope="module")
def runs(tasks, model_folder, tmp_path_factory):
    """(limit, result, curve in its folder, what is reused, evaluations) of one run, resumed with other limits."""
    folder, history = tmp_path_factory.mktemp("runs") / "run", []
    calls, predict, said = [], Evaluator.predict, []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Evaluator, "predict", lambda *args, **keys: calls.append(args[3]) or predict(*args, **keys))
        patch.setattr(progress.logger, "info", said.append)
        patch.setattr(fine_tuning, "_train", lambda run, *_: {k: 1.1 * x for k, x in run.base.theta_0.items()})
        for limit, sweep in ((6, "full"), (None, "full"), (5, "adaptive"), (6, "full")):
            options = PatchOptions(max_eval_images=limit, sweep=sweep, num_examples=0)
            before, keys = len(calls), {"alphas": [0.0, 0.5, 1.0], "selection": "mean", "options": options}
            result = patch_single(model_folder, tasks[0], [tasks[1]], arguments(folder), **keys)
            history.append((limit, result, AlphaCurve.from_run(folder), [*said], len(calls) - before))
            said.clear()
    return history


def test_every_record_is_of_the_same_images(runs):
    for limit, result, stored, *_ in runs:
        for curve in (result.curve, stored):
            assert {r.alpha for r in curve.results} == {0.0, 0.5, 1.0}
            for record in curve.results:
                size = {"test": 20, "validation": 6}[record.split]
                expected = (size, None) if limit is None or limit >= size else (limit, size)
                assert (record.total, record.drawn_from) == expected
                assert len(curve.correct_images(record)) == record.total


def test_nothing_is_evaluated_twice_and_nothing_is_mixed(runs):
    """A validation split has 6 images, so that 6 of them are the whole split."""
    test, validation = 3 * 2, 3 * 2
    assert [evaluations for *_, evaluations in runs] == [test + validation, test, test + validation, 0]
    first, last = runs[0][1].curve, runs[-1][1].curve
    assert {r.key: r.correct for r in first.results} == {r.key: r.correct for r in last.results}


def test_only_a_run_of_the_same_images_is_finished(runs):
    kept = "theta_1: kept."
    done = f"Nothing to train or measure: the run in {runs[0][1].run_folder} is finished."
    assert [said for *_, said, _ in runs] == [[], [kept], [kept], [done]]


def test_a_sample_of_a_run_holds_the_same_images_at_every_alpha(runs):
    """The correct images of the whole split, at the drawn indices."""
    task = CardSource.from_run(RunFolder(runs[0][1].run_folder)).tasks[0]
    indices = sample_splits(load_splits(task, ("test",)), 6)["test"].sample.indices
    few, whole = runs[0][1].curve, runs[1][1].curve
    for alpha in (0.0, 0.5, 1.0):
        results = [curve.get(alpha, "patching", "colours", "test") for curve in (few, whole)]
        drawn, every = (few.correct_images(results[0]), whole.correct_images(results[1]))
        assert np.array_equal(drawn, every[indices])


def test_the_recipe_and_the_card_say_so(runs):
    folder = runs[-1][1].run_folder
    assert yaml.safe_load((folder / "recipe.yaml").read_text())["max_eval_images"] == 6
    card = (folder / "patched" / "README.md").read_text()
    assert "measured on samples of the test images: " in claim(runs[-1][1].curve, 0.5, "test")
    note = "Only samples of the test images were evaluated, drawn by class with a fixed seed: "
    assert f"{note}6 of 20 for colours, 6 of 20 for others." in card
    assert "| colours | patching | 6 of 20 |" in card
    assert "Only samples of the validation images" not in card  # they have 6
    assert "max_eval_images: 6" in card
    assert "on 6 of 20 images" in card
    line = json.loads((folder / "results.jsonl").read_text().splitlines()[-1])
    assert (line["total"], line["drawn_from"]) == (6, 20)


def test_sentences_tell_samples_from_whole_splits(runs):
    few, whole = (run[1].curve.get(0.5, "patching", "colours", "test") for run in runs[:2])
    other = runs[1][1].curve.get(0.5, "supported", "others", "test")
    assert measured_images("test", [few]) == "samples of the test images"
    assert measured_images("test", [few, other]) == "test images (of colours: on a sample)"
    assert measured_images("test", [whole, other]) == "test images"


def test_a_sample_is_no_benchmark_result(runs, monkeypatch):
    """The Hub's leaderboards list results on whole splits."""
    monkeypatch.setattr(card_metadata, "benchmark_id", lambda task: f"me/{task.name}")
    source = CardSource.from_run(RunFolder(runs[0][1].run_folder))
    sampled, whole = (
        card_metadata.eval_result_files(replace(source, curve=run[1].curve), source.selected) for run in runs[:2]
    )
    assert sampled == {}
    assert whole.keys() == {".eval_results/colours.yaml", ".eval_results/others.yaml"}


def test_the_metadata_of_a_card_keep_the_sizes(runs):
    curve = runs[0][1].curve
    read = curve_from_metadata(curve_to_metadata(curve))
    assert {(r.alpha, r.task, r.split): r.sample for r in read.results} == {
        (r.alpha, r.task, r.split): r.sample for r in curve.results
    }


def test_a_sample_is_not_compared_with_all_images(runs, tmp_path):
    folder, whole = runs[-1][1].run_folder, tmp_path / "whole"
    assert "Of colours, only a sample was evaluated: 6 of 20 test images." in compare_runs([folder]).to_markdown()
    shutil.copytree(folder, whole)
    lines = (whole / "results.jsonl").read_text().splitlines(keepends=True)
    (whole / "results.jsonl").write_text("".join(line for line in lines if '"drawn_from": null' in line))
    with pytest.raises(InputError, match="it has 6 of 20 images in run, but 20 in whole"):
        compare_runs([folder, whole])


def test_a_limit_that_theta_1_may_depend_on_is_fixed():
    few, many = {"max_eval_images": 6}, {"max_eval_images": 7}
    assert conflicts(few, many) == conflicts({}, few) == conflicts(few, {}) == []
    for keys in ({"method": "greedy_soup"}, {"strategy": "sequential"}, {"eval_strategy": "steps"}):
        assert conflicts(few | keys, many | keys) == ["max_eval_images"]
        assert conflicts(few | keys, few | keys) == []


def test_a_stream_is_refused_before_anything_is_loaded(tasks, tmp_path):
    stream = write_task(tmp_path, "stream", streaming=True, splits={"validation": None})
    options = PatchOptions(max_eval_images=3, transfer_tasks=[stream])
    with pytest.raises(InputError, match="'stream' is streamed"):
        patch_single("no/such-model", tasks[0], [tasks[1]], arguments(tmp_path / "run"), options=options)
