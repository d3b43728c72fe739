import re

import pytest
import yaml
from huggingface_hub import ModelCard

from hf_paint import AlphaCurve, InputError, Task
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.results.curve_metadata import curve_from_metadata, curve_to_metadata
from hf_paint.results.records import Result


TASKS = [
    Task.from_dict({"name": "mnist", "dataset": "ylecun/mnist", "templates": ["the number {}"], "license": "mit"}),
    Task.from_dict({"name": "mine", "dataset": "parquet", "data_files": {"test": "/home/me/x"}, "templates": ["{}"]}),
]
RECIPE = {
    "model": "/home/me/models/clip",
    "patching_tasks": ["mnist"],
    "supported_tasks": ["/home/me/mine.yaml"],
    "output_dir": "/home/me/runs/1",
    "learning_rate": 1e-05,
}


@pytest.fixture
def source():
    results = [
        Result(alpha=alpha, task=task, role=role, split=split, correct=correct, total=1000)
        for split in ("validation", "test")
        for task, role, counts in (("mnist", "patching", (483, 911, 996)), ("mine", "supported", (898, 893, 414)))
        for alpha, correct in zip((0.0, 0.4, 1.0), counts, strict=True)
    ]
    curve = AlphaCurve(results)
    selection = {"alpha": 0.4, "rule": "supported_within", "tolerance": 0.01, "num_alphas": 3}
    selection |= {"chosen_on": "validation", "reported_on": "test"}
    return CardSource(
        curve=curve, selection=selection, recipe=RECIPE, tasks=TASKS, class_names=("0", "1"), base_model_id="o/clip"
    )


def test_claim_and_table(source):
    card = render_model_card(source)
    assert "mnist 48.3 % → 91.1 % (+42.8 points); mine 89.8 % → 89.3 % (-0.5 points)" in card
    table = [line for line in card.splitlines() if line.startswith("|")]
    assert table[0] == "| alpha | mnist (patching) | mine (supported) |"
    assert table[2] == "| 0 (zero-shot) | 48.30 | 89.80 |"
    assert table[3] == "| **0.40** | **91.10** | **89.30** |"
    assert "at most 1 point below" in card
    assert "only the validation images" in card


def test_metadata_round_trips(source):
    data = ModelCard(render_model_card(source)).data
    assert (data.base_model, data.base_model_relation) == ("o/clip", "merge")
    assert data.pipeline_tag == "zero-shot-image-classification"
    assert data.datasets == ["ylecun/mnist"]
    assert {(r.dataset_name, r.metric_value) for r in data.eval_results} == {("mnist", 0.911), ("mine", 0.893)}


def test_no_local_path_reaches_the_card(source):
    from dataclasses import replace

    assert "/home" not in render_model_card(source)
    card = render_model_card(replace(source, base_model_id=None))
    assert "/home" not in card
    assert "not on the Hub" in card


def test_no_secret_and_no_path_of_the_recipe_reaches_the_card(source):
    from dataclasses import replace

    extra = {
        "hub_token": "hf_secret",
        "resume_from_checkpoint": "../me/run",
        "run_name": "~/x",
        "fsdp_config": {"a": "/b"},
    }
    card = render_model_card(replace(source, recipe=dict(RECIPE) | extra))
    for word in ("hf_secret", "../me", "~/x", '"/b"', "fsdp"):
        assert word not in card


def test_recipe_is_yaml(source):
    block = re.search(r"```yaml\n(.*?)```", render_model_card(source), re.S).group(1)
    recipe = yaml.safe_load(block)
    assert recipe["learning_rate"] == 1e-05
    assert recipe["supported_tasks"] == ["mine.yaml"]
    assert "output_dir" not in recipe


def test_every_accuracy_comes_from_the_records(source):
    """Every decimal number in the tables is an accuracy, an alpha or a gain of the records."""
    card = render_model_card(source)
    accuracies = {f"{100 * r.accuracy:.2f}" for r in source.curve.results}
    gains = {f"{100 * gain.gain:+.2f}" for gain in source.curve.gains(0.4)}
    tables = " ".join(line for line in card.splitlines() if line.startswith("|") and "data set" not in line)
    tables = tables[: tables.index("| hf-paint |")]
    found = set(re.findall(r"[+-]?\d+\.\d+", tables))
    assert found == accuracies | gains | {"0.40"}


def test_the_card_of_another_alpha_says_so(source):
    branches = {"alpha-0.00": 0.0, "alpha-0.40": 0.4, "alpha-1.00": 1.0}
    card = render_model_card(source, alpha=1.0, repo_id="me/clip-mnist", branches=branches)
    assert 'model="me/clip-mnist", revision="alpha-1.00")' in card
    assert "The selected one has alpha 0.40, on the branch `main`." in card
    assert "`alpha-0.00`, `alpha-0.40`, `alpha-1.00`" in card
    assert "| **1 (fine-tuned)** | **99.60** | **41.40** |" in card
    data = ModelCard(card).data
    assert data.base_model_relation == "finetune"
    assert (data.hf_paint["alpha"], data.hf_paint["selected_alpha"]) == (1.0, 0.4)
    chosen = render_model_card(source, repo_id="me/clip-mnist", branches=branches)
    assert 'model="me/clip-mnist")' in chosen
    assert "The selected one has" not in chosen


def test_curve_in_the_metadata_is_that_of_the_records(source):
    """Read with a YAML parser and counted again, against the records themselves."""
    metadata = yaml.safe_load(render_model_card(source).split("---")[1])["hf_paint"]["curve"]
    curve = curve_from_metadata(metadata)
    fields = ("alpha", "task", "role", "split", "correct", "total", "exact")
    rows = [tuple(getattr(result, name) for name in fields) for result in curve.results]
    assert sorted(rows) == sorted(tuple(getattr(result, name) for name in fields) for result in source.curve.results)


def test_metrics_of_the_case_studies_are_in_text_and_metadata(source):
    """Attack success, the error of counts and the accuracy of each type of answer."""
    from dataclasses import replace

    def more(result):
        better = 2 if result.alpha else 1
        if result.role == "supported":
            return replace(result, answer_types={"yes/no": [60 * better, 400], "other": [90, 600]})
        return replace(result, attack_success=300 // better, mean_absolute_error=1.5 / better)

    source = replace(source, curve=AlphaCurve([more(result) for result in source.curve.results]))
    card = render_model_card(source)
    claim = "(+42.8 points, attack success 30.0 % → 15.0 %, mean absolute error 1.50 → 0.75); mine 89.8 %"
    assert claim in card
    assert "| mine | yes/no | 400 | 15.00 | 30.00 |" in card
    data = ModelCard(card).data
    assert data.metrics == ["accuracy", "attack_success", "mae"]
    found = {(r.dataset_name, r.metric_type, r.metric_name): r.metric_value for r in data.eval_results}
    assert found == {
        ("mnist", "accuracy", "top-1 accuracy at alpha 0.40"): 0.911,
        ("mnist", "attack_success", "attack success at alpha 0.40"): 0.15,
        ("mnist", "mae", "mean absolute error at alpha 0.40"): 0.75,
        ("mine", "accuracy", "top-1 accuracy at alpha 0.40"): 0.893,
        ("mine", "accuracy", "top-1 accuracy at alpha 0.40, answers of type yes/no"): 0.3,
        ("mine", "accuracy", "top-1 accuracy at alpha 0.40, answers of type other"): 0.15,
    }
    metadata = yaml.safe_load(card.split("---")[1])["hf_paint"]["curve"]
    fields = ("alpha", "task", "split", "attack_success", "mean_absolute_error", "answer_types")
    read, made = (
        {tuple(str(getattr(result, name)) for name in fields) for result in curve.results}
        for curve in (curve_from_metadata(metadata), source.curve)
    )
    assert read == made
    assert len(read) == 12


@pytest.mark.parametrize("keys", [{"attack": {}}, {"class_split": {"part": 0}}, {"only_classes": ["0"]}])
def test_changed_images_and_some_classes_are_no_benchmark_of_their_data_set(source, keys):
    from dataclasses import replace

    attacked = Task.from_dict(TASKS[0].to_dict() | keys)
    data = ModelCard(render_model_card(replace(source, tasks=[attacked, TASKS[1]]))).data
    assert {(r.dataset_name, r.dataset_type) for r in data.eval_results} == {("mnist", "mnist"), ("mine", "mine")}


def test_examples_are_shown_with_their_captions(source):
    from dataclasses import replace

    card = render_model_card(replace(source, examples={"mnist": "Drawn somehow."}), alpha=1.0)
    _, after = card.split("## Before and after")
    assert "mnist: Drawn somehow.\n\n![Images of mnist with" in after
    assert "](examples-mnist.png)\n\n## How alpha was chosen" in after
    assert "the selected model at 0.40" in after


def test_curve_metadata_keeps_gaps_and_what_is_not_exact():
    keys = {"task": "mnist", "role": "patching", "total": 10}
    results = [
        Result(alpha=0.0, split="test", correct=1, **keys),
        Result(alpha=0.5, split="test", correct=2, exact=False, **keys),
        Result(alpha=1.0, split="validation", correct=3, **keys),
    ]
    again = curve_from_metadata(curve_to_metadata(AlphaCurve(results)))
    assert sorted(again.results, key=lambda r: r.alpha) == results
    with pytest.raises(InputError, match="contains no valid alpha curve"):
        curve_from_metadata({"alphas": "0 1", "tasks": [keys | {"split": "test", "correct": "1"}]})
