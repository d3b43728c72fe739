"""Runs by RegMean: the images that the inputs of layers are measured on, interruptions, and the card."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml

from drawn_tasks import write_task_yaml
from hf_paint import InputError, PatchOptions, collect_grams, patch_parallel
from hf_paint.cli.main import main
from hf_paint.data.splits import load_splits
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower
from hf_paint.patching import grams
from hf_paint.patching.base import Base
from hf_paint.patching.plan import plan
from hf_paint.tasks.registry import get_task
from method_runs import NAMES, assert_close, patch, tower
from patch_runs import arguments


INTERRUPTED = 130
METHOD = {"regmean": {"reduction": 0.8, "num_images": 10, "seed": 3}}


def drawn_pixels(model_folder, task, num_images):
    """The pixels of the training images of a seed, by transformers' processor."""
    rows = load_splits(task, ("train",))["train"].rows["image"]
    order = np.random.default_rng(3).permutation(len(rows))[:num_images]
    return load_clip(model_folder)[1](images=[rows[int(i)] for i in order], return_tensors="pt").pixel_values


def merged(model_folder, folders, pixels):
    """theta_1 by the formula, in float64."""
    thetas = [tower(folder) for folder in folders]
    measured = []
    for folder, images in zip(folders, pixels, strict=True):
        found = collect_grams(image_tower(load_clip(folder)[0].double()), [images.double()])
        measured.append({name: 0.8 * gram + 0.2 * torch.diag(gram.diag()) for name, gram in found.items()})
    theta_1 = {}
    for name, x in thetas[0].items():
        theta_1[name] = sum(theta[name] for theta in thetas) / len(thetas)
        if name in measured[0]:
            right = sum(gram[name] @ theta[name].flatten(1).T for gram, theta in zip(measured, thetas, strict=True))
            theta_1[name] = torch.linalg.solve(sum(gram[name] for gram in measured), right).T.view_as(x)
    return theta_1


@pytest.fixture
def recipe(model_folder, thetas, tmp_path):
    """A recipe that merges the models of two tasks."""
    tasks = [write_task_yaml(tmp_path / "data", name, seed=seed) for seed, name in enumerate(("a", "b", "kept"))]
    keys = {
        "model": model_folder,
        "strategy": "parallel",
        "patching_tasks": tasks[:2],
        "supported_tasks": tasks[2:],
        "method": METHOD,
        "thetas": dict(zip("ab", thetas.values(), strict=False)),
        "alphas": [0.0, 1.0],
        "num_examples": 0,
        **{"output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(keys))
    return keys


def interrupt(*args):
    raise KeyboardInterrupt


def test_an_interrupted_merge_measures_only_what_is_missing(recipe, model_folder, tmp_path, monkeypatch):
    command, run, measured = ["patch", "--config", str(tmp_path / "recipe.yaml")], tmp_path / "run", []

    def measure(tower, batches):
        if len(measured) == 1:
            interrupt()
        measured.append(tower)
        return collect_grams(tower, batches)

    with monkeypatch.context() as patched:
        patched.setattr(grams, "collect_grams", measure)
        assert main(command) == INTERRUPTED
    [first] = (run / "grams").iterdir()
    whole = first.read_bytes()
    first.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with monkeypatch.context() as patched:
        patched.setattr(Base, "save", interrupt)
        assert main(command) == INTERRUPTED
    assert first.read_bytes() == whole
    assert len([*(run / "grams").iterdir()]) == 2
    monkeypatch.setattr(grams, "collect_grams", None)
    assert main(command) == 0
    assert not (run / "grams").exists()
    tasks = [get_task(path) for path in recipe["patching_tasks"]]
    pixels = [drawn_pixels(model_folder, task, 10) for task in tasks]
    assert_close(run / "theta_1", merged(model_folder, [*recipe["thetas"].values()], pixels))
    assert "the train split of task 'b'" in json.loads((run / "identity.json").read_text())["content"]
    card = (run / "patched/README.md").read_text()
    assert "merges the fine-tuned models with RegMean" in card
    assert "for 10 training images without their labels (`reduction` 0.8)" in card
    assert "regmean: {reduction: 0.8, num_images: 10, seed: 3}" in card


def test_models_of_one_task_are_measured_on_its_images(model_folder, tasks, thetas, tmp_path):
    patch(model_folder, tasks, tmp_path, method=METHOD, thetas=thetas, num_examples=0)
    pixels = [drawn_pixels(model_folder, tasks[0], 10)] * len(NAMES)
    assert_close(tmp_path / "theta_1", merged(model_folder, [*thetas.values()], pixels))


@pytest.mark.parametrize("name", ["regmean", "learned_soup"])
def test_a_method_that_reads_training_images_needs_them_beside_given_models(name, recipe, tmp_path):
    method = {name: {"images": "train"}} if name == "learned_soup" else name
    tasks = [get_task(path) for path in recipe["patching_tasks"]]
    without = [tasks[0], replace(tasks[1], splits=replace(tasks[1].splits, train=None, validation=None))]
    options = PatchOptions(method=method, thetas=recipe["thetas"])
    with pytest.raises(InputError, match="no train split"):
        patch_parallel(recipe["model"], without, [], arguments(tmp_path), selection="none", options=options)


def test_nothing_is_trained_for_a_method_that_only_measures(model_folder, tasks, thetas, tmp_path):
    options = PatchOptions(method="fisher", thetas={"made": thetas[NAMES[0]]})
    assert not plan(model_folder, tasks[:1], tasks[1:], arguments(tmp_path), options=options).trainings
