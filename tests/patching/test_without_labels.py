"""Choosing and merging without labels: `selection: entropy` and `method: adamerging` in runs."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from drawn_tasks import write_task
from hf_paint import AlphaCurve, InputError, PatchOptions, patch_parallel, select_alpha
from hf_paint.cli.main import main
from hf_paint.data.images import CachedImages
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.adamerging import AdaMerging
from hf_paint.merging.registry import read_method
from hf_paint.models.loading import load_clip
from hf_paint.patching.recipe import Rule
from hf_paint.patching.start import _check_validation
from hf_paint.results.alternatives import alternative_of, rules_of
from hf_paint.results.entropies import mean_entropy
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import why
from hf_paint.results.records import Result
from method_runs import tower
from patch_runs import arguments
from report_checks import checked_report


ALPHAS = [0.0, 0.25, 0.5, 1.0]
ADAMERGING = {"adamerging": {"steps": 3, "learning_rate": 0.05}}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder, name, train=20, test=4, seed=seed) for seed, name in enumerate(("one", "two", "kept"))]


@pytest.fixture(scope="module")
def merged(model_folder, tasks, tmp_path_factory):
    """A parallel run of AdaMerging whose alpha is chosen by entropy: no label is read after training."""
    return merge(model_folder, tasks, tmp_path_factory.mktemp("merged"), ADAMERGING, selection="entropy")


def merge(model_folder, tasks, folder, method, *, selection="mean", **options):
    short = {"max_steps": 3, "warmup_steps": 1}
    options = PatchOptions(method=method, save_variants=True, num_examples=0, **options)
    return patch_parallel(
        model_folder,
        tasks[:2],
        [tasks[2]],
        arguments(folder, **short),
        alphas=ALPHAS,
        selection=selection,
        options=options,
    )


def test_entropy_chooses_the_alpha_whose_predictions_are_most_certain(merged, tasks):
    """Against plain transformers and numpy, at every alpha, on the validation images."""
    variants = {a: merged.run_folder / f"variants/alpha-{a:.2f}" for a in ALPHAS}
    means = {}
    for alpha, folder in variants.items():
        found = [written_out(folder, task) for task in tasks]
        for task, value in zip(tasks, found, strict=True):
            role = "supported" if task is tasks[2] else "patching"
            record = merged.curve.get(alpha, role, task.name, "validation")
            assert record.relative_entropy == pytest.approx(value, abs=1e-5)
        means[alpha] = (sum(found[:2]) / 2 + found[2]) / 2
    assert merged.alpha == min(means, key=means.get)
    assert mean_entropy(merged.curve, merged.alpha) == pytest.approx(min(means.values()), abs=1e-5)
    assert Rule(alphas=ALPHAS, selection="entropy").score_of(merged.curve, 0.5) == pytest.approx(-means[0.5], abs=1e-5)


def written_out(folder, task):
    model, processor, _ = load_clip(str(folder))
    rows = load_splits(task, ("validation",))["validation"]
    prompts = [task.templates[0].format(name) for name in rows.class_names]
    inputs = processor(text=prompts, images=list(rows.rows["image"]), return_tensors="pt", padding=True)
    with torch.no_grad():
        logits = model(**inputs).logits_per_image.double().numpy()
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return float(-(p * np.log(p)).sum(-1).mean() / np.log(len(rows.class_names)))


def test_what_is_said_of_a_choice_and_a_merge_without_labels(merged):
    card = (merged.run_folder / "patched/README.md").read_text()
    assert "the rule `entropy` chose" in card
    assert "the lowest mean entropy of predictions, without labels" in card
    assert "Alpha was chosen without labels" in card
    assert "by minimising the entropy of predictions on the validation images" in card
    stored = json.loads((merged.run_folder / "coefficients.json").read_text())
    assert [*stored] == ["embeddings", "layer 0", "layer 1", "projection"]
    values = [layer["one"] for layer in stored.values()]
    spread = f"one {sum(values) / 4:.2f} ({min(values):.2f} to {max(values):.2f})"
    assert f"The learned coefficients, means over the layers and their ranges: {spread}" in card
    assert "without labels" in merged.summary
    tables = checked_report(merged.run_folder)["runs"][0]["tables"]
    (learned,) = [table for table in tables if "tensors" in table["columns"]]
    assert learned["rows"] == [[group, *values.values()] for group, values in stored.items()]
    recipe = yaml.safe_load((merged.run_folder / "recipe.yaml").read_text())
    assert (recipe["selection"], recipe["method"]["adamerging"]["images"]) == ("entropy", "validation")


def test_theta_1_has_the_recorded_coefficients(merged, model_folder):
    folder, theta_0 = merged.run_folder, tower(model_folder)
    models = {name: tower(folder / f"thetas/{name}/theta_1") for name in ("one", "two")}
    stored, found = json.loads((folder / "coefficients.json").read_text()), tower(folder / "theta_1")
    for part, group in (("embeddings.class_embedding", "embeddings"), ("layers.1.mlp.fc1.weight", "layer 1")):
        (name,) = (key for key in found if key.endswith(part))
        expected = theta_0[name] + sum(a * (models[model][name] - theta_0[name]) for model, a in stored[group].items())
        torch.testing.assert_close(found[name], expected, atol=1e-6, rtol=0)


def test_an_interrupted_merge_goes_on_to_the_same_weights(merged, model_folder, tasks, tmp_path, monkeypatch):
    shutil.copytree(
        merged.run_folder, tmp_path / "run", ignore=shutil.ignore_patterns("theta_1", "patched", "variants")
    )
    for name in ("one", "two"):
        shutil.copytree(merged.run_folder / f"thetas/{name}/theta_1", tmp_path / f"run/thetas/{name}/theta_1")
    (tmp_path / "run/coefficients.json").unlink()
    monkeypatch.setattr(Evaluator, "predict", None)  # every record is there
    merge(model_folder, tasks, tmp_path / "run", ADAMERGING, selection="entropy")
    before, after = (
        load_file(folder / "theta_1/model.safetensors") for folder in (merged.run_folder, tmp_path / "run")
    )
    assert all(torch.equal(x, after[name]) for name, x in before.items())
    assert (tmp_path / "run/coefficients.json").read_bytes() == (merged.run_folder / "coefficients.json").read_bytes()


def test_select_by_entropy(merged, capsys):
    main(["select", str(merged.run_folder), "--selection", "mean", "--dry_run"])
    main(["select", str(merged.run_folder), "--selection", "entropy", "--dry_run"])
    assert "without labels" in capsys.readouterr().out
    with pytest.raises(InputError, match="The rule `entropy` has no tolerance"):
        select_alpha(merged.run_folder, selection="entropy", tolerance=0.1)


def test_records_without_entropy_are_refused(merged):
    old = AlphaCurve(replace(result, relative_entropy=None) for result in merged.curve.results)
    with pytest.raises(InputError, match="needs the entropy of the predictions, which the record of one"):
        old.select("entropy")
    assert old.select("mean") == merged.curve.select("mean")


def test_the_choice_is_the_lowest_mean_over_both_sides():
    """Both sides have the same weight, whatever the number of their tasks; of equal means, the smaller alpha wins."""
    entropies = {0.0: (0.6, 0.6, 0.3), 0.25: (0.2, 0.4, 0.5), 0.5: (0.1, 0.5, 0.5), 1.0: (0.1, 0.1, 0.9)}
    roles = {"one": "patching", "two": "patching", "kept": "supported"}
    curve = AlphaCurve(
        Result(alpha=a, task=task, role=role, split="validation", correct=5, total=10, relative_entropy=value)
        for a, values in entropies.items()
        for (task, role), value in zip(roles.items(), values, strict=True)
    )
    means = {a: ((one + two) / 2 + kept) / 2 for a, (one, two, kept) in entropies.items()}
    assert curve.select("entropy") == min(a for a in means if means[a] == pytest.approx(min(means.values()))) == 0.25
    selection = {"alpha": 0.25, "rule": "entropy", "tolerance": 0.01}
    assert why(Outcome.of(curve, selection, {"selection": "entropy"})).endswith(
        "the rule `entropy` takes the lowest mean entropy of predictions, without labels"
    )
    others = rules_of(curve, selection | {"rule": "mean"}, {})
    assert others["entropy"].alpha == 0.25
    assert others["entropy"].flags == "--selection entropy"
    old = AlphaCurve(replace(result, relative_entropy=None) for result in curve.results)
    assert "entropy" not in rules_of(old, selection, {})
    by_hand = {"alpha": 1.0, "rule": "by hand", "tolerance": 0.01}
    assert alternative_of(curve, by_hand, {"selection": "entropy"}).alpha == 0.25
    assert alternative_of(old, by_hand, {"selection": "entropy"}) is None


@pytest.mark.parametrize("images", ["validation", "test"])
def test_test_images_are_read_only_if_asked_for(merged, model_folder, tasks, tmp_path, images, monkeypatch):
    """Every batch of the merge is drawn from the images of one split."""
    read, draw, merge_models = set(), CachedImages.__getitems__, AdaMerging.merge

    def watched(self, *models):
        def drawn(cached, indices):
            read.add(cached.fingerprint)
            return draw(cached, indices)

        with monkeypatch.context() as patch:
            patch.setattr(CachedImages, "__getitems__", drawn)
            return merge_models(self, *models)

    monkeypatch.setattr(AdaMerging, "merge", watched)
    thetas = {name: str(merged.run_folder / f"thetas/{name}/theta_1") for name in ("one", "two")}
    method = {"adamerging": {"steps": 1, "images": images, "by_layer": False}}
    result = merge(model_folder, tasks, tmp_path, method, thetas=thetas)
    fingerprints = {(r.task, r.split): r.data for r in result.curve.results}
    assert read == {fingerprints[name, images] for name in ("one", "two")}
    card = (tmp_path / "patched/README.md").read_text()
    assert ("the test accuracies on this card are not those of unseen images" in card) == (images == "test")
    assert "The learned coefficients: one 0." in card


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "needs `steps` of at least 1"),
        ({"initial": 1.5}, r"`initial` of the method 'adamerging' must be a number in \[0, 1\], got 1.5"),
        ({"images": "tset"}, "must be validation, train or test, got 'tset'. Did you mean 'test'"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(InputError, match=message):
        read_method({"adamerging": options})


@pytest.mark.parametrize("options", [{"selection": "entropy"}, {"method": "adamerging"}])
def test_tasks_with_several_classes_per_image_are_refused(options, model_folder, tasks, tmp_path):
    table = tmp_path / "list.csv"
    table.write_text("image,label\n" + "".join(f"{index}.png,a;b\n" for index in range(4)))
    several = {"name": "several", "dataset": "csv", "data_files": {"train": str(table), "test": str(table)}}
    several |= {"multi_label": True, "label_separator": ";", "class_names": ["a", "b"], "templates": ["{}"]}
    options = {"method": "ties"} | options
    with pytest.raises(InputError, match="not defined for the multi-label task 'several'"):
        merge(model_folder, [several, *tasks[1:]], tmp_path / "run", **options)


def test_each_task_needs_the_images_that_its_coefficients_are_learned_on():
    """The coefficient of a task without images would follow the entropy of the other tasks alone."""
    images = {"one": {"validation": [], "test": []}, "two": {"test": []}}
    tasks = [SimpleNamespace(role="patching", images=i, task=SimpleNamespace(name=name)) for name, i in images.items()]
    rule = SimpleNamespace(selection="none")
    message = "'adamerging' needs validation images of every patching task, but 'two' has none"
    with pytest.raises(InputError, match=message):
        _check_validation(SimpleNamespace(method=AdaMerging(), rule=rule), tasks)
    _check_validation(SimpleNamespace(method=AdaMerging(images="test"), rule=rule), tasks)
    _check_validation(SimpleNamespace(method=read_method("learned_soup"), rule=rule), tasks)
