"""Runs on data that have no task file: what their recipes record, and when they resume."""

import io

import pytest
import yaml
from datasets import DatasetDict
from PIL import Image

from hf_paint import PaintTrainer, Task, evaluate_tasks, patch_single
from hf_paint.cli.main import main
from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.patching.recipe import Rule
from hf_paint.patching.start import resolve
from patch_runs import arguments
from references import NAMES, WORDS, pictures, rows, write_all


SHORT = {"max_steps": 2, "warmup_steps": 1}
STRATIFIED = {"train": "train", "validation": "stratified", "test": "stratified"}


@pytest.fixture(scope="module")
def references(tmp_path_factory):
    return write_all(tmp_path_factory.mktemp("references"))


@pytest.fixture(scope="module")
def supported(tmp_path_factory):
    """Data with other pictures and another name."""
    return {"dataset": rows().select(range(0, 60, 2)), "name": "half"}


@pytest.fixture(scope="module")
def finished(model_folder, supported, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    patch(model_folder, rows(), supported, folder)
    return folder


def patch(model_folder, data, supported, folder):
    return patch_single(model_folder, data, [supported], arguments(folder, **SHORT), alphas=[1.0])


def test_a_recipe_says_that_data_were_in_memory(finished):
    recipe = yaml.safe_load((finished / "recipe.yaml").read_text())
    [task], [half] = recipe["patching_tasks"], recipe["supported_tasks"]
    assert (task["name"], task["dataset"], task["splits"]) == ("dataset", "memory", STRATIFIED)
    assert (task["class_names"], task["label_names"]) == (list(WORDS), list(NAMES))
    assert half["name"] == "half"
    assert "guess" not in task


def test_the_same_call_resumes_and_other_data_are_refused(finished, model_folder, supported, monkeypatch):
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    before = (finished / "results.jsonl").read_text()
    patch(model_folder, rows(), supported, finished)
    assert (finished / "results.jsonl").read_text() == before
    with pytest.raises(InputError, match="since it started, the .* split of task 'dataset'.* changed"):
        patch(model_folder, rows().select(range(59, -1, -1)), supported, finished)


def test_a_recipe_of_data_in_memory_cannot_be_run_alone(finished, tmp_path, capsys):
    assert main(["patch", "--config", str(finished / "recipe.yaml"), "--output_dir", str(tmp_path / "again")]) == 2
    assert "were in the memory of a Python program" in capsys.readouterr().err


def test_a_recipe_names_the_place_and_the_splits_of_a_folder(references, model_folder, supported, tmp_path):
    rule, options = Rule(alphas=[1.0]), None
    tasks = {"patching_tasks": [references["textures"]], "supported_tasks": [supported]}
    recipe = resolve("single", model_folder, arguments(tmp_path, **SHORT), rule=rule, options=options, **tasks)
    [task] = recipe.to_dict()["patching_tasks"]
    assert (task["data_dir"], task["splits"]) == (references["textures"], STRATIFIED)
    assert Task.from_dict(task) == recipe.patching_tasks[0]


def test_two_data_sets_of_one_name_are_told_apart(model_folder, references, tmp_path):
    with pytest.raises(InputError, match="'textures' is listed twice.*name one of them: {name: other-textures"):
        patch(model_folder, references["textures"], {"dataset": references["textures"]}, tmp_path)


def test_evaluation_takes_whatever_names_a_task(model, processor, references):
    """All rows of data in memory without splits, and the test split of all others."""
    pairs = [(Image.open(io.BytesIO(data)), name) for data, name in pictures()]
    given = [references["one.parquet"], pairs, {"dataset": rows(), "name": "third"}]
    results = evaluate_tasks(model, given, processor=processor)
    assert [(result.task, result.total) for result in results] == [("one", 12), ("dataset", 60), ("third", 12)]
    assert results[0].correct == results[2].correct
    [whole] = evaluate_tasks(model, rows(), processor=processor)
    assert (whole.total, whole.correct) == (60, results[1].correct)
    [own] = evaluate_tasks(model, DatasetDict(train=rows(), test=rows().select(range(10))), processor=processor)
    assert own.total == 10
