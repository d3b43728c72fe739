"""What a plan says that each method measures and keeps, against a run of it."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch

from hf_paint import PatchOptions, patch_parallel, patch_single
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.patching import grams, measurements
from hf_paint.patching.plan import plan
from hf_paint.patching.recipe import Rule
from patch_runs import arguments


ALPHAS = [0.0, 1.0]
MEASURING = {
    "fisher": {"num_images": 10},
    "greedy_soup": {},
    "learned_soup": {"steps": 2},
    "adamerging": {"steps": 2},
    "regmean": {"num_images": 10},
    "auto": {"methods": ["uniform_soup", "task_arithmetic"]},
}
"""Methods that measure something on images, with the options of a short run."""
ARGUMENTS = {"layerwise": {"factors": {"fc1": 1.0}}}


@pytest.fixture
def passed(monkeypatch):
    """How many images pass through the image tower, and the sizes of files that are removed before the run ends."""
    counts, gather, draw = Counter(), Evaluator._gather, measurements.training_pixels
    call, save = measurements.functional_call, grams.save_fingerprinted

    def counted_gather(self, tower, task, split, function, indices=None):
        counts["images"] += len(task.images[split]) if indices is None else len(indices)
        return gather(self, tower, task, split, function, indices)

    def counted_draw(*args, **keys):
        batches = draw(*args, **keys)
        counts["images"] += sum(map(len, batches))
        return batches

    def counted_call(tower, weights, kwargs):
        counts["images"] += len(kwargs["pixel_values"])
        return call(tower, weights, kwargs=kwargs)

    def counted_save(path, tensors):
        save(path, tensors)
        counts["grams"] += path.stat().st_size

    monkeypatch.setattr(Evaluator, "_gather", counted_gather)
    monkeypatch.setattr(measurements, "functional_call", counted_call)
    for module in (measurements, grams):
        monkeypatch.setattr(module, "training_pixels", counted_draw)
    monkeypatch.setattr(grams, "save_fingerprinted", counted_save)
    return counts


def size_of(*folders):
    return sum(path.stat().st_size for folder in folders for path in folder.glob("*.safetensors"))


@pytest.mark.parametrize("name", MEASURING)
def test_a_method_measures_and_keeps_what_its_plan_says(name, model_folder, tasks, thetas, tmp_path, passed):
    number = 1 if METHODS[name].takes == "one" else 2
    models, rule = dict(list(thetas.items())[:number]), {"alphas": ALPHAS, "selection": "mean"}
    options, strategy, patching = {"num_examples": 0, "method": {name: MEASURING[name]}}, "single", tasks[:1]
    if name in ("auto", "regmean"):
        strategy, patching = "parallel", [tasks[0], tasks[0].from_dict(tasks[0].to_dict() | {"name": "again"})]
        models = dict(zip([task.name for task in patching], models.values(), strict=True))
        options |= {"search_budget": 4} if name == "auto" else {}
    options = PatchOptions(thetas=models, **options)
    args = arguments(tmp_path / "run")
    found = plan(model_folder, patching, tasks[1:], args, strategy=strategy, rule=Rule(**rule), options=options)
    passed.clear()
    patch, chosen = (patch_single, patching[0]) if strategy == "single" else (patch_parallel, patching)
    run = patch(model_folder, chosen, tasks[1:], args, **rule, options=options).run_folder
    planned = found.num_images + found.method.num_images
    if name == "auto":  # what was tried is not evaluated again, which the plan cannot know
        assert 0.6 * planned <= passed["images"] <= planned
    else:
        assert passed["images"] == planned
    assert (found.method.num_images > 0) == (name != "auto")
    sizes = {
        "theta_1": size_of(run / "theta_1"),
        "patched": size_of(run / "patched"),
        "Fisher information": size_of(run / "fisher"),
        "inputs of layers, until the models are merged": passed["grams"],
    }
    for what, size in sizes.items():
        assert found.disk.get(what, 0) == pytest.approx(size, rel=0.15)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in MEASURING])
def test_other_methods_measure_nothing(name):
    """They merge although nothing can be measured."""
    method = read_method({name: ARGUMENTS.get(name)})
    assert method.measured(2) == read_method("interpolate").measured(2)
    layers = [f"vision_model.encoder.layers.{number}.mlp.fc1.weight" for number in range(2)]
    theta_0, *others = ({layer: torch.eye(2) + value for layer in layers} for value in (0.0, 1.0, 2.0))
    thetas = dict(zip("ab" if method.takes == "several" else "a", others, strict=False))
    merged = method.merge(theta_0, thetas, SimpleNamespace(device=torch.device("cpu")))
    assert merged.keys() == theta_0.keys()
