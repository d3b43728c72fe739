"""A few of the damages of `damage.py`: one for each way to read what may be damaged."""

import logging

import pytest

from damaged_place import REPLACED, damaged_place


ATTEMPTS = [
    ("finished run", "push", "run/theta_1/model.safetensors", "one bit flipped"),
    ("finished run", "push", "run/results.jsonl", REPLACED),
    ("finished run", "push", "run/curve.png", "removed"),
    ("finished run", "select", "run/theta_1/model.safetensors", REPLACED),
    ("finished run", "select", "run/selection.json", "truncated"),
    ("finished run", "apply", "run/patched/model.safetensors", "one bit flipped"),
    ("finished run", "report", "run/details.jsonl", "removed"),
    ("finished run", "report", "run/report.html", "emptied"),
    ("patch", "apply", "patch/patch.safetensors", REPLACED),
    ("patch", "apply", "patch/patch_config.json", "noise"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with damaged_place(tmp_path_factory.mktemp("damage")) as made:
        yield made


@pytest.mark.parametrize(("name", "command", "file", "how"), ATTEMPTS)
def test_damage_is_mended_or_told(place, name, command, file, how):
    [scene] = [scene for scene in place.scenes() if (scene.name, scene.command) == (name, command)]
    place.attempt(scene, file, how)


def test_a_choice_without_answers_to_single_images_is_refused_or_leaves_them_out_and_says_so(place, monkeypatch):
    warn = logging.getLogger("hf_paint.report.writing").parent.warning  # the report is not drawn, which is said
    monkeypatch.setattr("hf_paint.report.writing.logger.warning", warn)
    [scene] = [scene for scene in place.scenes() if (scene.name, scene.command) == ("finished run", "select")]
    files = [file for file in place.files(scene) if file.startswith("run/correct/")]
    assert {place.attempt(scene, file, "removed") for file in files if "b-test" in file} == {"left out", "refused"}


@pytest.mark.parametrize("how", ["one bit flipped", "noise", "a folder"])
def test_a_damaged_cached_head_is_made_again(place, how):
    [scene] = [scene for scene in place.scenes() if scene.name == "cache"]
    file = next(file for file in place.files(scene) if "heads/" in file)
    assert place.attempt(scene, file, how) == "the same"
