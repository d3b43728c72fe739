"""`tasks.json`: what it holds, and what is refused in a file from someone else."""

import json
from dataclasses import replace

import pytest
import torch

from drawn_tasks import CLASS_NAMES
from hf_paint import InputError, Task, get_task, load_classifier, prepare_task
from hf_paint.models.given import model_of, own_tasks
from hf_paint.models.heads import CandidateHead, GroupedHead
from hf_paint.models.loading import save_clip
from hf_paint.models.task_file import TaskClasses, merge_tasks, read_tasks, write_tasks
from hf_paint.models.zero_shot import build_listed_head, build_task_head


SPECIAL = ("two words", "zwölf", "猫", 'quo"te', "back\\slash", "new\nline", "<b>")
GROUPED = Task(
    name="grouped",
    dataset="parquet",
    templates=("a {}.", "the {}"),
    class_names=("bike", "car"),
    class_groups={"car": ("car", "van"), "bike": ("bicycle",)},
)
QUESTIONS = Task(name="questions", dataset="parquet", templates=("{}",), choices_column="choices")
PLAIN = Task(name="plain", dataset="parquet", templates=("a photo of a {}.",))


@pytest.mark.parametrize(
    ("task", "class_names", "kind"),
    [
        (PLAIN, SPECIAL, None),
        (GROUPED, ("bike", "car"), GroupedHead),
        (QUESTIONS, ("is it red? no", "yes"), CandidateHead),
    ],
)
def test_the_head_of_the_run_is_rebuilt_exactly(model, processor, tmp_path, task, class_names, kind):
    expected = build_task_head(model, processor.tokenizer, task, class_names)
    write_tasks(tmp_path, [TaskClasses.of(task, class_names, role="shift")])
    [listed] = read_tasks(tmp_path)
    assert listed == TaskClasses.of(task, class_names, role="shift")
    head = build_listed_head(model, processor.tokenizer, listed)
    assert head.fingerprint == expected.fingerprint
    assert type(head) is type(expected)
    assert kind is None or isinstance(head, kind)


def test_built_in_tasks_are_named_and_the_rows_of_a_trained_head_are_kept(tmp_path, task, model, processor):
    prepared = prepare_task(task, model, processor, role="shift").with_rows_of([*reversed(CLASS_NAMES)])
    cifar10 = get_task("cifar10")
    write_tasks(tmp_path, [prepared.classes, TaskClasses.of(cifar10, cifar10.class_names)])
    assert [listed.built_in for listed in read_tasks(tmp_path)] == [None, "cifar10"]
    assert read_tasks(tmp_path)[0].head_rows == ((3,), (2,), (1,), (0,))


GOOD = {"name": "a", "role": "patching", "kind": "classification", "class_names": ["x", "y"], "templates": ["a {}"]}
BAD = {
    "no JSON": b"{",
    "no object": b"[]",
    "no text": b"\xff\xfe",
    "deeply nested": b'{"format_version": 1, "tasks": ' + b"[" * 100_000,
    "tasks no list": {"tasks": {"a": GOOD}},
    "task no object": {"tasks": ["a"]},
    "too many tasks": {"tasks": [GOOD | {"name": f"t{i}"} for i in range(1001)]},
    "twice": {"tasks": [GOOD, GOOD]},
    "path as name": {"name": "../../etc"},
    "long name": {"name": "a" * 1000},
    "unknown role": {"role": "owner"},
    "no classes": {"class_names": []},
    "classes as text": {"class_names": "xy"},
    "number as class": {"class_names": ["x", 1]},
    "long class": {"class_names": ["x" * 20_000]},
    "half a surrogate": {"class_names": ["\ud800"]},
    "no placeholder": {"templates": ["a photo"]},
    "two placeholders": {"templates": ["{} {}"]},
    "too many prompts": {"class_names": ["x"] * 3000, "templates": ["a {}"] * 2000},
    "groups of others": {"class_groups": {"x": ["x"], "z": ["z"]}},
    "empty group": {"class_groups": {"x": ["x"], "y": []}},
    "rows for one class": {"head_rows": [[0]]},
    "uneven rows": {"head_rows": [[0], [0, 1]]},
    "negative row": {"head_rows": [[0], [-1]]},
    "true as row": {"head_rows": [[0], [True]]},
    "path as built-in": {"built_in": "/etc/task.yaml"},
    "kind no text": {"kind": 3},
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_is_refused_in_one_line(tmp_path, case):
    bad = BAD[case]
    if isinstance(bad, dict):
        bad = json.dumps({"format_version": 1, "tasks": [GOOD | bad], **(bad if "tasks" in bad else {})}).encode()
    (tmp_path / "tasks.json").write_bytes(bad)
    with pytest.raises(InputError, match=r"^The tasks\.json of '.*' (is damaged|is not valid JSON): ") as caught:
        read_tasks(tmp_path)
    assert len(str(caught.value)) < 700


def test_later_versions_and_huge_files_are_refused(tmp_path, monkeypatch):
    (tmp_path / "tasks.json").write_text(json.dumps({"format_version": 2, "tasks": []}))
    with pytest.raises(InputError, match="has format version 2, but this version of hf_paint reads only 1"):
        read_tasks(tmp_path)
    with (tmp_path / "tasks.json").open("wb") as file:
        file.truncate(65 * 2**20)
    with pytest.raises(InputError, match="is larger than"):
        read_tasks(tmp_path)


def test_later_keys_are_ignored(tmp_path):
    (tmp_path / "tasks.json").write_text(json.dumps({"format_version": 1, "tasks": [GOOD | {"new": 1}], "more": 2}))
    assert read_tasks(tmp_path)[0].class_names == ("x", "y")


def test_tasks_of_several_models_are_merged(caplog):
    x, y = (TaskClasses.of(PLAIN, (name,), role="supported") for name in "xy")
    group = TaskClasses.of(GROUPED, ("bike", "car"), role="patching")
    assert merge_tasks([[x], [group, replace(x, role="shift")]]) == [group, x]
    assert caplog.text == ""
    assert merge_tasks([[x, group], [y]]) == [group]
    assert "Left out of tasks.json, because the patches define them differently: plain." in caplog.text


def test_only_built_in_tasks_come_with_data(tmp_path, caplog):
    cifar10 = get_task("cifar10")
    entries = [TaskClasses.of(PLAIN, ("x", "y")), TaskClasses.of(cifar10, cifar10.class_names)]
    write_tasks(tmp_path, entries)
    assert own_tasks(tmp_path) == [cifar10]
    assert "comes without their data: plain. Name them in --tasks." in caplog.text
    write_tasks(tmp_path, entries[:1])
    with pytest.raises(InputError, match=r"comes without the data of its tasks \(plain\). Pass --tasks."):
        own_tasks(tmp_path)


def test_a_model_beside_its_recipe_is_no_run(tmp_path):
    (tmp_path / "recipe.yaml").write_text("model: m\n")
    with pytest.raises(InputError, match="has no patched model"):
        model_of(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert model_of(tmp_path) == str(tmp_path)


@pytest.fixture(scope="module")
def listed(_base_model, processor, tmp_path_factory):
    folder = tmp_path_factory.mktemp("listed") / "clip"
    save_clip(_base_model, processor, folder)
    write_tasks(folder, [TaskClasses.of(GROUPED, ("bike", "car")), TaskClasses.of(PLAIN, SPECIAL)])
    return folder


def test_a_classifier_is_found_by_the_name_of_its_task(listed, model):
    classifier = load_classifier(listed, "plain")
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    embeds = model.get_image_features(pixel_values=pixels).pooler_output
    text = classifier.processor.tokenizer(
        [f"a photo of a {name}." for name in SPECIAL], padding=True, return_tensors="pt"
    )
    texts = model.get_text_features(**text).pooler_output
    cosines = torch.nn.functional.cosine_similarity(embeds[:, None], texts[None], dim=-1)
    assert torch.allclose(classifier(pixels), model.logit_scale.exp() * cosines, atol=1e-4)
    assert classifier.class_names == SPECIAL
    assert load_classifier(listed, "grouped")(pixels).shape == (2, 2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (None, "has several tasks. Name one of them: grouped, plain."),
        ("plane", "has no task 'plane': grouped, plain. Did you mean 'plain'?"),
    ],
)
def test_tasks_that_are_not_there(listed, name, message):
    with pytest.raises(InputError) as caught:
        load_classifier(listed, name)
    assert message in str(caught.value)


def test_the_only_task_needs_no_name_and_rows_need_a_head(listed):
    rows = TaskClasses.of(PLAIN, ("x", "y"), head_rows=((0,), (1,)))
    write_tasks(listed, [rows])
    with pytest.raises(InputError, match="refers to rows that its trained head does not have"):
        load_classifier(listed)
    write_tasks(listed, [TaskClasses.of(PLAIN, ("x", "y"))])
    assert load_classifier(listed).class_names == ("x", "y")
