"""The contents of a report: every number against the records, formulas written out, and a second implementation."""

import json
import math
import shutil

import numpy as np
import pytest
from scipy.stats import binomtest

from hf_paint import AlphaCurve, InputError
from hf_paint.documents.reading import read_json
from hf_paint.files import write_json
from hf_paint.report.building import report_of
from report_checks import checked_report
from run_folders import write_run


ALPHAS = (0.0, 0.25, 0.5, 1.0)
CLASSES, IMAGES = 20, 400


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A made-up run, its report, and what the model really said: (task, alpha) -> labels, predicted, confidence."""
    folder = tmp_path_factory.mktemp("made") / "run"
    truth = write_run(folder, tasks=2, alphas=ALPHAS, classes=CLASSES, images=IMAGES, pictures=4)
    return folder, checked_report(folder)["runs"][0], truth


@pytest.fixture
def copied(made, tmp_path):
    """A copy of the run that a test may change."""
    return shutil.copytree(made[0], tmp_path / "run")


def test_accuracies_have_the_interval_of_wilson(made):
    _, run, truth = made
    for task in run["tasks"]:
        for alpha, accuracy in zip(ALPHAS, task["accuracy"], strict=True):
            labels, predicted, _ = truth[task["name"], alpha]
            found = binomtest(int((labels == predicted).sum()), IMAGES).proportion_ci(method="wilson")
            assert accuracy["low"] == pytest.approx(found.low)
            assert accuracy["high"] == pytest.approx(found.high)


def test_gains_have_the_interval_of_the_resampled_images(made):
    """Images are drawn with replacement, one by one; the bounds are sample quantiles, so they are close, not equal."""
    _, run, truth = made
    generator = np.random.default_rng(1)
    for task in run["tasks"]:
        right = {alpha: np.equal(*truth[task["name"], alpha][:2]) for alpha in ALPHAS}
        for alpha, gain in zip(ALPHAS, task["gain"], strict=True):
            difference = right[alpha].astype(float) - right[0.0]
            means = difference[generator.integers(IMAGES, size=(2000, IMAGES))].mean(axis=1)
            assert [gain["low"], gain["high"]] == pytest.approx(np.quantile(means, [0.025, 0.975]), abs=0.01)


def test_bins_of_confidence_are_counted_anew(made):
    _, run, truth = made
    for task in run["tasks"]:
        for alpha, bins in zip(ALPHAS, task["calibration"], strict=True):
            labels, predicted, confidence = truth[task["name"], alpha]
            edges = [(i / 15, (i + 1) / 15) for i in range(15)]
            inside = [(confidence > low) & (confidence <= high) for low, high in edges]
            expected = [(m.sum(), confidence[m].mean(), (labels == predicted)[m].mean()) for m in inside if m.any()]
            assert np.array(bins) == pytest.approx(np.array(expected), abs=1e-6)


def test_classes_and_their_mistakes_are_counted_anew(made):
    _, run, truth = made
    for task in run["tasks"]:
        found, names = task["per_class"], [f"class {i}" for i in range(CLASSES)]
        counts = {}
        for alpha in ALPHAS:
            labels, predicted, _ = truth[task["name"], alpha]
            counts[alpha] = np.zeros((CLASSES, CLASSES), dtype=int)
            np.add.at(counts[alpha], (labels, predicted), 1)
        assert (found["classes"], found["total"]) == (names, counts[0.0].sum(axis=1).tolist())
        assert found["correct"] == [counts[alpha].diagonal().tolist() for alpha in ALPHAS]
        change = np.abs(counts[1.0].diagonal() - counts[0.0].diagonal()) / counts[0.0].sum(axis=1)
        twelfth = np.sort(change)[-12]
        for alpha, cells in zip(ALPHAS, found["confusion"], strict=True):
            shown = {label for label, _, _ in cells}
            assert len(shown) <= 12
            assert 0 < len([cell for cell in cells if cell[1] not in shown]) <= 30
            kept = {(label, other): images for label, other, images in cells}
            for label in shown:  # the cells of a matrix: none may look empty that is not
                assert all(kept.get((label, c), 0) == counts[alpha][label, c] for c in shown if c != label)
            for label, other, images in cells:
                assert label != other
                assert images == counts[alpha][label, other]
                assert change[label] >= twelfth


def test_pictures_have_the_answers_of_every_point(made):
    _, run, truth = made
    for task in run["tasks"]:
        assert len(task["pictures"]) == 2
        assert task["pictures_note"] == "Pictures of noise."
        for picture in task["pictures"]:
            assert picture["src"].startswith("data:image/jpeg;base64,/9j/")
            for alpha, best in zip(ALPHAS, picture["answers"], strict=True):
                _, predicted, confidence = (values[picture["index"]] for values in truth[task["name"], alpha])
                assert best[0] == (f"class {predicted}", pytest.approx(confidence, abs=2e-5))


@pytest.mark.parametrize("how", ["up", "absolute", "link"])
def test_a_picture_outside_of_the_run_is_not_shown(copied, how, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    path = copied / "examples" / "examples.json"
    saved = read_json(path)
    picture = saved["task0"]["pictures"][0]
    if how == "link":
        (copied / "examples" / picture["file"]).unlink()
        (copied / "examples" / picture["file"]).symlink_to(secret)
    else:
        picture["file"] = "../../secret" if how == "up" else str(secret)
        write_json(path, saved)
    with pytest.raises(InputError, match="pictures must be in"):
        report_of([copied])


@pytest.mark.parametrize(
    "change",
    [{"labels": [CLASSES]}, {"labels": [-1]}, {"written": CLASSES}, {"labels": [2], "candidates": ["yes", "no"]}],
)
def test_a_label_that_is_no_candidate_is_refused(copied, change):
    path = copied / "examples" / "examples.json"
    saved = read_json(path)
    saved["task0"]["pictures"][0] |= change
    write_json(path, saved)
    with pytest.raises(
        InputError, match=r"examples.json gives 'task0/0.jpg' the label -?\d+, but there are \d+ candidates"
    ):
        report_of([copied])


def test_layers_are_those_of_the_products(made):
    """||theta_0|| = 2, ||tau|| = 3 and <theta_0, tau> = 1, so ||theta_1||^2 = 4 + 2 + 9."""
    for layer in made[1]["layers"]:
        assert (layer["model"], layer["norm"], layer["relative"]) == ("theta_1", 3, 1.5)
        assert layer["cosine"] == pytest.approx((4 + 1) / (2 * math.sqrt(15)))


def test_points_have_branches_and_code(made):
    _, run, _ = made
    assert [point["label"] for point in run["points"]] == ["0.00", "0.25", "0.50", "1.00"]
    assert [point["revision"] for point in run["points"]] == ["alpha-0.00", "alpha-0.25", "alpha-0.50", "alpha-1.00"]
    assert (run["fine_tuned"], run["chosen"], run["connected"]) == (3, 3, True)
    assert [snippet["points"] for snippet in run["snippets"]] == [[3], [0, 1, 2], [0, 1, 2, 3]]
    for snippet in run["snippets"]:
        code = snippet["code"].replace("{alpha}", "0.5").replace("{revision}", "alpha-0.50").replace("{brace}", "{")
        if snippet["language"] == "python":
            compile(code, "snippet", "exec")


def test_what_every_other_rule_would_choose(made):
    """The rule `mean` chose alpha 1; within a point of zero-shot, the supported task keeps alpha 0.25 at most."""
    _, run, _ = made
    (found,) = [sentence for sentence in run["choice"] if sentence.startswith("The rule `supported_within`")]
    assert "would choose alpha 0.25, with task0 +" in found
    assert found.endswith("`hf-paint select run --selection supported_within`.")


def test_the_points_are_found_once_and_not_for_every_record(made, monkeypatch):
    """With 14 tasks and 101 alphas, it took 20 seconds."""
    found, points = [], AlphaCurve.points
    monkeypatch.setattr(AlphaCurve, "points", lambda curve, split: found.append(split) or points(curve, split))
    report_of([made[0]])
    assert len(found) < len(AlphaCurve.from_run(made[0]).results)


def test_a_run_of_an_earlier_version_has_what_its_records_hold(copied, made):
    for name in ("details.jsonl", "changes.json", "tasks.json"):
        (copied / name).unlink()
    for name in ("examples", "correct"):
        shutil.rmtree(copied / name)
    run = checked_report(copied)["runs"][0]
    assert run["layers"] == []
    for task, whole in zip(run["tasks"], made[1]["tasks"], strict=True):
        assert (task["per_class"], task["calibration"], task["pictures"]) == (None, None, [])
        assert task["accuracy"] == whole["accuracy"]
        assert [gain["value"] for gain in task["gain"]] == [gain["value"] for gain in whole["gain"]]
        assert {gain["low"] for gain in task["gain"]} == {None}


def test_an_unfinished_run_says_so_and_shows_what_there_is(copied):
    for name in ("selection.json", "card.json"):
        (copied / name).unlink()
    lines = (copied / "results.jsonl").read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["task"] == "task0" or json.loads(line)["alpha"] < 0.5]
    (copied / "results.jsonl").write_text("".join(kept))
    run = checked_report(copied)["runs"][0]
    assert run["claim"].startswith("This run is not finished")
    assert [point["label"] for point in run["points"]] == ["0.00", "0.25"]  # where every task has a record


def test_a_run_that_chose_alpha_0_was_not_patched(copied):
    write_json(copied / "selection.json", read_json(copied / "selection.json") | {"alpha": 0.0})
    run = checked_report(copied)["runs"][0]
    assert run["title"] == "clip not patched on task0"
    assert run["claim"].startswith("Nothing was patched")


def test_numbers_of_an_adaptive_sweep_are_marked(copied):
    text = (copied / "results.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    changed = [line | {"exact": line["alpha"] in (0, 1)} for line in lines]
    (copied / "results.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in changed))
    run = checked_report(copied)["runs"][0]
    assert run["tasks"][0]["exact"] == [True, False, False, True]
    assert run["tasks"][0]["calibration"][1] is None
    assert any("`~`" in note for note in run["notes"])
    assert [point["revision"] for point in run["points"]] == ["alpha-0.00", "", "", "alpha-1.00"]


def test_runs_beside_each_other_are_named_by_their_folders(made, copied):
    report = report_of([made[0], copied])
    first, second = report["runs"]
    assert (first["title"], second["title"]) == (f"{made[0].parent.name}/run", f"{copied.parent.name}/run")
    assert first["tasks"] == second["tasks"] == made[1]["tasks"]


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "recipe.yaml").unlink(), "is not a run folder: it has no recipe.yaml"),
        (lambda folder: (folder / "results.jsonl").unlink(), "has no records yet: it lacks results.jsonl"),
        (lambda folder: (folder / "results.jsonl").write_text(""), "has no record at alpha 0 yet"),
        (
            lambda folder: write_json(folder / "tasks.json", {"tasks": ["x"]}),
            "tasks.json is damaged: `tasks.0.` must be keys and values",
        ),
    ],
)
def test_what_is_no_run_is_named(copied, break_it, message):
    break_it(copied)
    with pytest.raises(InputError, match=message):
        report_of([copied])


def test_a_run_given_twice_is_refused(made):
    with pytest.raises(InputError, match="is given twice"):
        report_of([made[0], made[0]])
