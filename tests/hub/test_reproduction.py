"""A stranger with the repository alone reproduces the numbers of its card."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import HfApi, ModelCard, hf_hub_download

from drawn_tasks import draw_rows
from hf_paint import InputError, PushOptions, load_classifier, push_variants
from hf_paint.cli.main import main
from hf_paint.hub.pull import load_curve
from hf_paint.weights.manifest import MANIFEST


BASE = PushOptions(base_model_id="o/clip")


def count_correct(classifier, rows):
    return sum(
        predicted == classifier.class_names[label]
        for predicted, label in zip(classifier.classify(rows["image"]), rows["label"], strict=True)
    )


def test_the_headline_number(hub, finished_run):
    """The test images of the two tasks are drawn again, and their predictions counted."""
    push_variants(finished_run, "tester/clip", options=BASE)
    selected = json.loads((finished_run / "selection.json").read_text())["alpha"]
    curve = load_curve("tester/clip")
    for revision, alpha in {"main": selected, "alpha-0.00": 0.0, "alpha-1.00": 1.0}.items():
        for task, role, seed in (("colours", "patching", 1), ("others", "supported", 8)):
            classifier = load_classifier("tester/clip", task, revision=revision)
            expected = curve.get(alpha, role, task, "test")
            assert count_correct(classifier, draw_rows(40, seed)) == expected.correct, (revision, task)
            assert (
                count_correct(load_classifier(f"tester/clip@{revision}", task), draw_rows(40, seed))
                == expected.correct
            )
    call = 'load_classifier("tester/clip", revision="alpha-1.00", task="colours")'
    card = hf_hub_download("tester/clip", "README.md", revision="alpha-1.00")
    assert call in ModelCard.load(card).content
    with pytest.raises(InputError, match="'tester/clip' has several tasks. Name one of them: colours, others"):
        load_classifier("tester/clip")


def test_every_branch_and_the_delta_carry_the_tasks(hub, finished_run):
    push_variants(finished_run, "tester/clip", options=BASE)
    push_variants(finished_run, "tester/patch", options=PushOptions(base_model_id="o/clip", form="delta"))
    expected = (finished_run / "tasks.json").read_bytes()
    assert (finished_run / "patched" / "tasks.json").read_bytes() == expected
    assert [task["name"] for task in json.loads(expected)["tasks"]] == ["colours", "others"]
    assert str(finished_run.parent) not in expected.decode()
    places = [("tester/clip", branch.name) for branch in HfApi().list_repo_refs("tester/clip").branches]
    for repo_id, revision in [*places, ("tester/patch", "main")]:
        path = HfApi().hf_hub_download(repo_id, "tasks.json", revision=revision)
        assert Path(path).read_bytes() == expected


def test_a_run_of_an_earlier_version_is_pushed_without_and_completed_later(hub, finished_run, tmp_path):
    run = shutil.copytree(finished_run, tmp_path / "run")
    for folder in (run, run / "patched"):
        (folder / "tasks.json").unlink()
    (run / "patched" / MANIFEST).unlink()
    push_variants(run, "tester/clip", options=BASE, alphas=[0.0])
    assert "tasks.json" not in HfApi().list_repo_files("tester/clip")
    assert main(["evaluate", str(run / "theta_1"), "--use_cpu"]) == 0
    plan = push_variants(finished_run, "tester/clip", options=BASE, alphas=[0.0])
    assert {branch.action for branch in plan.branches} == {"update card"}
    assert "tasks.json" in HfApi().list_repo_files("tester/clip", revision="alpha-0.00")
