"""Patch on one half of the classes of a task, and evaluate the other (PAINT, Section 5)."""

import json

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset

from drawn_tasks import CLASS_NAMES, write_task_yaml
from hf_paint import AlphaCurve, PaintTrainingArguments, PatchOptions, evaluate_tasks, get_task, patch_single
from hf_paint.cli.run_recipe import run_recipe


PARTS = (0, 2), (1, 3)  # np.random.default_rng(0).permutation(4) is 2, 0, 1, 3
TRAINING = {"max_steps": 3, "warmup_steps": 1, "per_device_train_batch_size": 8, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    """The path to a task YAML."""
    return write_task_yaml(tmp_path_factory.mktemp("task"), "colours")


def half(colours, part):
    return {"extends": colours, "class_split": {"part": part}}


@pytest.fixture(scope="module")
def run(colours, model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    args = PaintTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **TRAINING)
    kept = get_task({"extends": colours, "name": "kept", "templates": ["{}"]})
    options = PatchOptions(transfer_tasks=[get_task(half(colours, 1))])
    return patch_single(model_folder, get_task(half(colours, 0)), [kept], args, alphas=[0.5, 1.0], options=options)


def test_transfer_is_in_the_records_the_curve_and_the_card(run):
    records = [json.loads(line) for line in (run.run_folder / "results.jsonl").read_text().splitlines()]
    transfer = [record for record in records if record["role"] == "transfer"]
    assert [record["alpha"] for record in transfer] == [0.0, 0.5, 1.0]
    assert {(record["task"], record["split"]) for record in transfer} == {("colours-part-1", "test")}
    curve = AlphaCurve.from_run(run.run_folder)
    totals = [
        curve.get(0.0, role, f"colours-part-{i}", "test").total for i, role in enumerate(("patching", "transfer"))
    ]
    assert sum(totals) == 40
    card = (run.run_folder / "patched" / "README.md").read_text()
    assert "| colours-part-1 | transfer |" in card
    gains = json.loads((run.run_folder / "selection.json").read_text())["gains"]
    assert ("transfer", "colours-part-1") in {(gain["role"], gain["task"]) for gain in gains}


def test_the_recipe_is_whole_and_the_same_again(run, colours, model_folder, tmp_path):
    recipe = yaml.safe_load((run.run_folder / "recipe.yaml").read_text())
    assert recipe["patching_tasks"][0] == get_task(half(colours, 0)).to_dict()
    assert recipe["transfer_tasks"][0]["class_split"] == {"part": 1, "seed": 0}
    before = (run.run_folder / "results.jsonl").read_bytes()
    run_recipe(str(run.run_folder / "recipe.yaml"), [])
    assert (run.run_folder / "results.jsonl").read_bytes() == before
    written = TRAINING | {"model": model_folder, "alphas": [0.5, 1.0], "use_cpu": True, "disable_tqdm": True}
    written |= {"patching_tasks": half(colours, 0), "transfer_tasks": [half(colours, 1)]}
    written |= {"supported_tasks": [{"extends": colours, "name": "kept", "templates": ["{}"]}]}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(written))
    run_recipe(str(tmp_path / "recipe.yaml"), ["--output_dir", str(run.run_folder)])
    assert (run.run_folder / "results.jsonl").read_bytes() == before


@torch.no_grad()
def test_accuracy_is_that_of_the_whole_restricted_to_the_half(colours, model, processor):
    """The logits of all classes, from plain transformers, restricted to the rows and the columns of each half."""
    rows = Dataset.from_parquet(get_task(colours).data_files["test"])
    texts = [f"a photo of a {name}." for name in CLASS_NAMES]
    inputs = processor(text=texts, images=list(rows["image"]), return_tensors="pt", padding=True)
    logits = model.eval()(**inputs).logits_per_image.numpy()
    labels = np.array(rows["label"])
    tasks = [get_task(half(colours, part)) for part in (0, 1)]
    for result, kept in zip(evaluate_tasks(model, tasks, processor=processor), PARTS, strict=True):
        inside = np.isin(labels, kept)
        correct = np.array(kept)[logits[inside][:, kept].argmax(axis=1)] == labels[inside]
        assert (result.correct, result.total) == (correct.sum(), inside.sum())
        rows_of_half = logits[inside][:, kept].astype(np.float64)
        probabilities = np.exp(rows_of_half) / np.exp(rows_of_half).sum(axis=1, keepdims=True)
        own = np.searchsorted(kept, labels[inside])
        assert result.loss == pytest.approx(-np.log(probabilities[np.arange(len(own)), own]).mean(), rel=1e-4)
