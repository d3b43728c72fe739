"""Methods in runs: resumed soups, strategies, recipes and errors."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from drawn_tasks import write_task, write_task_yaml
from hf_paint import (
    InputError,
    PatchOptions,
    patch_joint,
    patch_parallel,
    patch_sequential,
)
from hf_paint.cli.run_recipe import run_recipe
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.registry import METHODS, read_method
from hf_paint.training.trainer import PaintTrainer
from method_runs import ALPHAS, INGREDIENTS, NAMES, SHORT, assert_close, by_transformers, mean, patch, total, tower
from patch_runs import arguments
from report_checks import checked_report
from task_matrices import iso_cts_written_out, tsv_written_out


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


def test_greedy_soup_is_the_recipe_on_validation(greedy, tasks, model_folder):
    folder = greedy.run_folder
    scores = json.loads((folder / "scores.json").read_text())
    size = len(load_splits(tasks[0], ("validation",))["validation"].rows)
    models = {name: tower(folder / "thetas" / name / "theta_1") for name in NAMES}
    for name in NAMES:
        assert scores[name] == by_transformers(folder / "thetas" / name / "theta_1", tasks[0], "validation") / size
    best, *others = sorted(NAMES, key=lambda name: -scores[name])
    soup = [best]
    for name in others:
        if scores[" + ".join([*soup, name])] > scores[" + ".join(soup)]:
            soup.append(name)
    assert_close(folder / "theta_1", {n: mean(None, [models[one][n] for one in soup]) for n in models[best]})
    found = greedy.curve.get(1.0, "patching", "colours", "validation").accuracy
    assert found == scores[" + ".join(soup)] >= scores[best]
    (averaged,) = checked_report(folder)["runs"][0]["tables"]
    assert averaged["rows"] == [[names, score] for names, score in scores.items()]


def test_greedy_soup_by_the_selection_rule(model_folder, tasks, thetas, tmp_path):
    method = {"greedy_soup": {"score": "selection"}}
    patch(model_folder, tasks, tmp_path, method=method, thetas=thetas)
    card = (tmp_path / "patched/README.md").read_text()
    assert "Existing fine-tuned models were used for " in card
    assert "This run did not train any model: it used existing fine-tuned models." in card
    scores = json.loads((tmp_path / "scores.json").read_text())
    for name, folder in thetas.items():
        parts = []
        for task in tasks:
            rows = load_splits(task, ("validation",))["validation"].rows
            parts.append(by_transformers(folder, task, "validation") / len(rows))
        assert scores[name] == pytest.approx(np.mean(parts))


def test_interrupted_soup_goes_on(greedy, model_folder, tasks, tmp_path, monkeypatch):
    predict, train, calls = Evaluator.predict, PaintTrainer.train, {"predict": 0, "train": 0}

    def counted(self, *args, **keys):
        if calls["predict"] == 2:
            raise KeyboardInterrupt
        calls["predict"] += 1
        return predict(self, *args, **keys)

    def trained(self, *args, **keys):
        calls["train"] += 1
        return train(self, *args, **keys)

    options = {"method": "greedy_soup", "ingredients": INGREDIENTS}
    monkeypatch.setattr(PaintTrainer, "train", trained)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Evaluator, "predict", counted)
        patch(model_folder, tasks, tmp_path, **options)
    assert len(json.loads((tmp_path / "scores.json").read_text())) == 2
    monkeypatch.setattr(PaintTrainer, "train", None)
    again = patch(model_folder, tasks, tmp_path, **options)
    assert calls["train"] == 3
    assert (tmp_path / "scores.json").read_bytes() == (greedy.run_folder / "scores.json").read_bytes()
    assert [r.to_json() for r in again.curve.results] == [r.to_json() for r in greedy.curve.results]
    monkeypatch.setattr(Evaluator, "predict", None)
    assert patch(model_folder, tasks, tmp_path, **options).alpha == greedy.alpha


def test_parallel_patching_by_task_arithmetic(model_folder, tasks, tmp_path):
    options = PatchOptions(method="task_arithmetic")
    args = arguments(tmp_path, **SHORT)
    result = patch_parallel(model_folder, tasks, [], args, alphas=ALPHAS, selection="none", options=options)
    theta_0 = tower(model_folder)
    found = [tower(tmp_path / "thetas" / task.name / "theta_1") for task in tasks]
    assert_close(tmp_path / "theta_1", {n: total(x, [theta[n] for theta in found]) for n, x in theta_0.items()})
    assert result.curve.alphas == (0.0, 0.5, 1.0)
    assert "search" not in yaml.safe_load((tmp_path / "recipe.yaml").read_text())


def test_parallel_card_says_one_alpha(model_folder, tasks, thetas, tmp_path):
    third = write_task(tmp_path / "data", "third", seed=3)
    given = dict(zip((tasks[0].name, third.name), thetas.values(), strict=False))
    options = PatchOptions(method={"ties": {"density": 0.5}}, thetas=given)
    patch_parallel(
        model_folder, [tasks[0], third], [tasks[1]], arguments(tmp_path / "run"), alphas=ALPHAS, options=options
    )
    card = (tmp_path / "run/patched/README.md").read_text()
    assert "on each task separately (colours and third)" in card
    assert "with the coefficients" not in card
    assert "each is trimmed to its largest 50 %" in card
    assert "Of 3 alphas, the rule" in card
    assert "ties: {density: 0.5}" in card


@pytest.mark.parametrize(
    ("method", "formula", "said"),
    [
        ("tsv", tsv_written_out, "the task vectors of the fine-tuned models with TSV-M"),
        ({"iso_cts": {"common_fraction": 0.5}}, iso_cts_written_out(0.5), "about 50 % of the singular directions"),
    ],
)
def test_parallel_patching_by_a_spectral_merge(method, formula, said, model_folder, tasks, tmp_path):
    """Of models that differ at random: those of a few steps on the same images are too alike to compare exactly."""
    third = write_task(tmp_path / "data", "third", seed=3)
    given = {task.name: moved(model_folder, tmp_path / task.name, seed) for seed, task in enumerate((tasks[0], third))}
    options = PatchOptions(method=method, thetas=given, save_variants=True, num_examples=0)
    args = arguments(tmp_path / "run")
    patch_parallel(model_folder, [tasks[0], third], [tasks[1]], args, alphas=[0.5], options=options)
    theta_0, found = tower(model_folder), [tower(folder) for folder in given.values()]
    theta_1 = {}
    for name, x in theta_0.items():
        taus = [(theta[name] - x).numpy() for theta in found]
        theta_1[name] = x + torch.from_numpy(formula(taus) if x.ndim == 2 else sum(taus) / 2)
    assert_close(tmp_path / "run/theta_1", theta_1)
    assert_close(tmp_path / "run/variants/alpha-0.50", {name: (x + theta_1[name]) / 2 for name, x in theta_0.items()})
    assert said in (tmp_path / "run/patched/README.md").read_text()


def moved(model_folder, folder, seed):
    """A copy of the model with noise added to its image tower."""
    shutil.copytree(model_folder, folder)
    file, generator = folder / "model.safetensors", torch.Generator().manual_seed(seed)
    stored = load_file(file)
    noise = {name: 0.01 * torch.randn(stored[name].shape, generator=generator) for name in tower(folder)}
    save_file(
        stored | {name: stored[name] + x for name, x in noise.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    return str(folder)


def test_joint_and_sequential_patching_with_a_method(model_folder, tasks, tmp_path):
    options = PatchOptions(method="uniform_soup", ingredients=[{"seed": [0, 1]}])
    rule = {"alphas": ALPHAS, "options": options}
    joint = patch_joint(model_folder, [tasks[0]], [tasks[1]], arguments(tmp_path / "joint", **SHORT), **rule)
    steps = patch_sequential(model_folder, [tasks[0]], [tasks[1]], arguments(tmp_path / "steps", **SHORT), **rule)
    found = [tower(tmp_path / f"joint/thetas/seed={seed}/theta_1") for seed in (0, 1)]
    soup = {name: (x + found[1][name]) / 2 for name, x in found[0].items()}
    assert_close(tmp_path / "joint/theta_1", soup)
    assert_close(tmp_path / "steps/step-1/theta_1", soup)
    assert steps.alpha == {"colours": joint.alpha}


def test_recipe_and_what_it_resolves_to(model_folder, tmp_path, monkeypatch):
    recipe = {
        "model": model_folder,
        "patching_tasks": [write_task_yaml(tmp_path, "colours")],
        "supported_tasks": [write_task_yaml(tmp_path, "others", seed=7)],
        "method": {"model_stock": {"by_layer": True}},
        "ingredients": {"learning_rate": ["1e-3", 3e-3]},
        "alphas": [-0.5, 0.5],
        "extrapolate": True,
        **{"output_dir": str(tmp_path / "run"), "use_cpu": True, "disable_tqdm": True, "max_steps": 2},
        **{"warmup_steps": 1, "per_device_train_batch_size": 8},
    }
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    run_recipe(str(tmp_path / "recipe.yaml"), [])
    resolved = tmp_path / "run/recipe.yaml"
    before = resolved.read_text()
    assert yaml.safe_load(before)["method"] == {"model_stock": {"by_layer": True}}
    assert sorted(path.name for path in (tmp_path / "run/thetas").iterdir()) == [
        "learning_rate=0.001",
        "learning_rate=0.003",
    ]
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    run_recipe(str(resolved), [])
    assert resolved.read_text() == before
    with pytest.raises(InputError, match="contains a run with a different recipe.yaml .*method"):
        run_recipe(str(resolved), ["--method", "uniform_soup"])


def test_order_of_factors_survives_the_command_line(tmp_path):
    from hf_paint.cli.recipe import recipe_arguments

    method = {"layerwise": {"factors": {"z": 0.5, "a": 0.25}}}
    _, text = recipe_arguments({"method": method}, known={"method"})
    assert list(yaml.safe_load(text)["layerwise"]["factors"]) == ["z", "a"]


def test_every_method_round_trips():
    for name in METHODS:
        method = read_method({"layerwise": {"factors": [0.0, 1.0]}} if name == "layerwise" else name)
        assert read_method(yaml.safe_load(yaml.safe_dump(method.to_recipe()))) == method
        assert method.sentence().endswith(".") or name == "interpolate"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "greedy_soop"}, "Unknown method 'greedy_soop'. Did you mean 'greedy_soup'"),
        (
            {"method": {"ties": {"densty": 0.2}}},
            "Unknown option 'densty' for the method 'ties'. Did you mean 'density'",
        ),
        ({"method": {"ties": {"density": 2}}}, "must be above 0 and at most 1, got 2"),
        ({"method": {"iso_cts": {"common_fraction": 0}}}, "common_fraction must be above 0 and at most 1, got 0"),
        ({"method": {"lines": {"beta": "much"}}}, "`beta` of the method 'lines' must be a number, got 'much'"),
        ({"method": {"swa": {"every": 0}}}, "every at least 1"),
        ({"method": {"ema": None, "swa": None}}, "`method` must be a name, or a name with options"),
        ({"method": "layerwise"}, "needs `factors`"),
        ({"method": {"layerwise": {"factors": {1: 0.5}}}}, r"needs `factors`: .*; got \{1: 0.5\}"),
        ({"method": {"layerwise": {"factors": 0.5}}}, "needs `factors`: .*; got 0.5"),
        (
            {"method": {"layerwise": {"factors": [1.0], "default": 2}}},
            r"`default` .* must be a number in \[0, 1\], got 2",
        ),
        ({"method": {"fisher": {"seed": -1}}}, "a `seed` of at least 0, got 256 and -1"),
        ({"method": {"learned_soup": {"steps": 0}}}, "needs `steps` of at least 1"),
        ({"method": {"learned_soup": {"learning_rate": -0.1}}}, "a `learning_rate` above 0"),
        ({"method": {"learned_soup": {"images": "trian"}}}, "must be validation or train, got 'trian'. Did you mean"),
        (
            {"method": "ema", "thetas": {"made": "somewhere"}},
            "'ema' averages weights during training, but `thetas` are trained already",
        ),
        ({"method": "greedy_soup", "thetas": {"a + b": "x", "c": "y"}}, r"must not contain ' \+ ', got 'a \+ b'"),
        ({"method": {"layerwise": {"factors": [0.5]}}}, "has 4 layers"),
        ({"method": {"layerwise": {"factors": {"nothing": 0.5}}}}, "'nothing' matches no tensor"),
        ({"method": "uniform_soup"}, "merges several fine-tuned models, got 1"),
        ({"ingredients": [{"seed": [0, 1]}]}, "'interpolate' takes one fine-tuned model, got 2"),
        ({"method": "uniform_soup", "ingredients": [{"sead": [0, 1]}]}, "'sead' is not a training field.*'seed'"),
        ({"method": "uniform_soup", "ingredients": [{"train_head": True}]}, "'train_head' is not a training field"),
        (
            {"method": "uniform_soup", "ingredients": [{"seed": [0, 0]}]},
            "'seed=0' and 'seed=0' have the same training arguments",
        ),
        (
            {"method": "uniform_soup", "ingredients": [{"learning_rate": [1e-3, 2e-3]}, {"seed": 42}]},
            "'learning_rate=0.001' and 'seed=42' have the same training arguments",
        ),
        ({"method": "uniform_soup", "ingredients": [{"learning_rate": ["x", 1]}]}, "must be a number, got 'x'"),
        ({"method": "fisher", "extrapolate": True}, "supports only alphas in"),
        ({"method": {"greedy_soup": {"score": "all"}}}, "must be patching or selection"),
    ],
)
def test_errors_come_before_training(options, message, model_folder, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(PaintTrainer, "train", None)
    with pytest.raises(InputError, match=message):
        patch(model_folder, tasks, tmp_path, **options)
    assert not (tmp_path / "recipe.yaml").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "lines"}, "'lines' takes one fine-tuned model. With `strategy: parallel`, use"),
        ({"extrapolate": True}, "stays within"),
        ({"method": "ties", "ingredients": [{"seed": [0, 1]}]}, "Remove `ingredients`"),
        ({"method": "tsv"}, "'tsv' merges several fine-tuned models, .* of which there is 1"),
        ({"method": "model_stock"}, "'model_stock' merges several fine-tuned models, .* of which there is 1"),
        ({"method": "regmean"}, "'regmean' merges several fine-tuned models, .* of which there is 1"),
    ],
)
def test_errors_of_parallel_patching(options, message, model_folder, tasks, tmp_path):
    with pytest.raises(InputError, match=message):
        patch_parallel(model_folder, tasks[:1], tasks[1:], arguments(tmp_path), options=PatchOptions(**options))


def test_greedy_soup_needs_validation_images(model_folder, tasks, thetas, tmp_path):
    without = [replace(tasks[0], splits=replace(tasks[0].splits, validation=None)), tasks[1]]
    with pytest.raises(InputError, match="needs validation images, but no patching task"):
        patch(model_folder, without, tmp_path, selection="none", method="greedy_soup", thetas=thetas)


def test_models_that_are_there_need_no_train_split(model_folder, tasks, thetas, tmp_path):
    without = [replace(tasks[0], splits=replace(tasks[0].splits, train=None, validation=None)), tasks[1]]
    options = {"selection": "none", "thetas": thetas, "alphas": [1.0]}
    result = patch(model_folder, without, tmp_path / "soup", method="uniform_soup", **options)
    assert result.curve.alphas == (0.0, 1.0)
    for others in ({"ingredients": [{"seed": 3}]}, {"method": "fisher", "thetas": {"made": thetas[NAMES[0]]}}):
        with pytest.raises(InputError, match="no train split"):
            patch(model_folder, without, tmp_path / "other", **{"method": "uniform_soup"} | options | others)
