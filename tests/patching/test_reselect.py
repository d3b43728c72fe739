"""Choosing alpha again from the records of a finished run, without images, models to run or training."""

import json
import shutil

import pytest
import torch
import yaml

from drawn_tasks import write_task
from hf_paint import InputError, patch_joint, patch_parallel, patch_single, select_alpha
from hf_paint.cli.main import main
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.hub.publication import Publication
from hf_paint.patching import reselect
from hf_paint.patching.options import PatchOptions
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.training.trainer import PaintTrainer
from hf_paint.weights.manifest import MANIFEST
from patch_runs import arguments, weights


ALPHAS = [0.0, 0.25, 0.5, 1.0]
SHORT = {"max_steps": 3, "warmup_steps": 1, "learning_rate": 3e-3}


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tmp_path_factory.mktemp("data")


@pytest.fixture(scope="module")
def tasks(data):
    second = write_task(data, "second", seed=3, names=("blue", "grey", "red", "green"))
    return write_task(data, "first"), second, write_task(data, "kept", seed=7)


KINDS = {
    "plain": ({}, {"save_dtype": "bfloat16"}),
    "fisher": ({}, {"method": {"fisher": {"num_images": 16}}}),
    "lora": ({"use_peft": True, "lora_r": 2, "learning_rate": 2e-2}, {}),
    "head": ({"train_head": True}, {}),
}


@pytest.fixture(scope="module")
def runs(model_folder, tasks, tmp_path_factory):
    """A finished run of each kind, with the model at every alpha as the run itself saves it."""
    folder = tmp_path_factory.mktemp("runs")
    for kind, (keys, options) in KINDS.items():
        args = arguments(folder / kind, **(SHORT | keys))
        options = PatchOptions(save_variants=True, **options)
        patch_single(model_folder, tasks[0], [tasks[2]], args, alphas=ALPHAS, selection="mean", options=options)
    return folder


@pytest.fixture(scope="module")
def parallel_run(model_folder, tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parallel") / "run"
    keys = {"alphas": [0.0, 0.5, 1.0], "selection": "mean", "options": PatchOptions(search_budget=8)}
    patch_parallel(model_folder, tasks[:2], [tasks[2]], arguments(folder, **SHORT), **keys)
    return folder


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the plain run."""
    return shutil.copytree(runs / "plain", tmp_path / "run")


@pytest.fixture
def no_images(data, monkeypatch):
    """Nothing is trained or evaluated, and the data sets are elsewhere."""
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)
    elsewhere = data.rename(data.with_name("elsewhere"))
    yield
    elsewhere.rename(data)


def selection_of(folder):
    return json.loads((folder / "selection.json").read_text())


def another(folder):
    """An alpha on the path that the run has not chosen."""
    return 0.25 if selection_of(folder)["alpha"] != 0.25 else 0.5


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_the_one_that_the_run_would_have_saved(runs, kind, tmp_path, no_images):
    folder = shutil.copytree(runs / kind, tmp_path / "run")
    alpha = another(folder)
    result = select_alpha(folder, alpha=alpha)
    expected = folder / "variants" / f"alpha-{alpha:.2f}"
    names = {path.name for path in expected.iterdir()}
    plots = {path.name for path in folder.glob("*.png")}
    assert {"curve.png", "accuracy.png", "examples-first.png", "examples-kept.png"} <= plots
    assert names | {"README.md", *plots} == {path.name for path in (folder / "patched").iterdir()}
    for name in names - {MANIFEST}:  # that of `patched/` lists the plots too
        assert (folder / "patched" / name).read_bytes() == (expected / name).read_bytes()
    assert result.alpha == alpha
    found = weights(folder / "patched")
    assert all(torch.equal(found[name], x) for name, x in result.model.state_dict().items())
    if kind == "lora":
        from peft import PeftConfig

        config = json.loads((folder / "patched_adapter/adapter_config.json").read_text())
        before = PeftConfig.from_pretrained(str(folder / "adapter")).lora_alpha
        assert config["lora_alpha"] == pytest.approx(alpha * before)


def test_combinations_are_those_that_were_searched(parallel_run, model_folder, tmp_path, no_images):
    folder = shutil.copytree(parallel_run, tmp_path / "run")
    curve = AlphaCurve.from_run(folder)
    others = [
        a for a in curve.points("validation") if isinstance(a, Coefficients) and a != selection_of(folder)["alpha"]
    ]
    alpha = others[-1]
    select_alpha(folder, alpha=dict(alpha))
    theta_0, found = weights(model_folder), weights(folder / "patched")
    thetas = {name: weights(folder / "thetas" / name / "theta_1") for name in alpha}
    for name, x in theta_0.items():
        summed = x.double() + sum(a * (thetas[t][name].double() - x.double()) for t, a in alpha.items())
        torch.testing.assert_close(found[name].double(), summed, rtol=0, atol=1e-6)
    assert selection_of(folder)["reported_on"] == "validation"  # a search evaluates test images of its choice only
    assert "validation images" in (folder / "patched/README.md").read_text().split("## Accuracy")[0]
    select_alpha(folder, tolerance=0)
    chosen = curve.select("supported_within", tolerance=0)
    assert selection_of(folder)["alpha"] == (chosen or {"first": 0.0, "second": 0.0})
    select_alpha(folder, selection="mean")
    assert selection_of(folder)["alpha"] == selection_of(parallel_run)["alpha"]
    assert weights(folder / "patched").keys() == found.keys()


def test_a_rule_chooses_as_a_run_with_this_rule(run, model_folder, tasks, tmp_path, no_images):
    other = shutil.copytree(run, tmp_path / "other")
    select_alpha(run, selection="supported_within", tolerance=0.5)
    curve = AlphaCurve.from_run(run)
    assert selection_of(run)["alpha"] == curve.select("supported_within", tolerance=0.5)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    assert (recipe["selection"], recipe["tolerance"]) == ("supported_within", 0.5)
    assert {key: x for key, x in recipe.items() if key not in ("selection", "tolerance")} == {
        key: x
        for key, x in yaml.safe_load((other / "recipe.yaml").read_text()).items()
        if key not in ("selection", "tolerance")
    }


def test_the_rule_stays_when_the_recipe_is_run_again(run, monkeypatch):
    """And an alpha that was chosen by hand stays until another rule is asked for."""
    again = ["patch", "--config", str(run / "recipe.yaml"), "--output_dir", str(run)]
    select_alpha(run, tolerance=0.5)
    chosen, history = selection_of(run)["alpha"], selection_of(run)["history"]
    monkeypatch.setattr(PaintTrainer, "train", None)
    assert main(again) == 0
    assert (selection_of(run)["alpha"], selection_of(run)["history"]) == (chosen, history)
    by_hand = another(run)
    select_alpha(run, alpha=by_hand)
    assert main(again) == 0
    assert (selection_of(run)["alpha"], selection_of(run)["rule"]) == (by_hand, "by hand")
    assert (run / "examples-first.png").exists()  # made again, for this alpha
    assert main([*again, "--selection", "mean", "--tolerance", "0.01"]) == 0
    assert selection_of(run)["rule"] == "mean"
    assert [choice["rule"] for choice in selection_of(run)["history"]] == ["mean", "supported_within", "by hand"]


def test_the_history_is_kept_and_told(run):
    first = selection_of(run)
    alpha = another(run)
    select_alpha(run, alpha=alpha)
    select_alpha(run, alpha=alpha)  # the same again changes nothing
    [earlier] = selection_of(run)["history"]
    assert earlier | {key: first[key] for key in ("alpha", "rule", "tolerance")} == earlier
    card = (run / "patched/README.md").read_text()
    assert f"By hand, without a rule: alpha {alpha:.2f}" in card
    assert f"Earlier choices in this run: alpha {first['alpha']:.2f} (mean, {earlier['chosen_at'][:10]})" in card
    assert f"Chosen for alpha {first['alpha']:.2f}: Drawn at random" in card
    select_alpha(run)
    assert (selection_of(run)["alpha"], selection_of(run)["rule"]) == (first["alpha"], "mean")
    assert len(selection_of(run)["history"]) == 2


def test_what_was_interrupted_is_repeated(run, tmp_path, monkeypatch):
    """A folder that was being replaced is whole: the old model with its card, or the new one."""
    whole, alpha = shutil.copytree(run, tmp_path / "whole"), another(run)
    select_alpha(whole, alpha=alpha)
    before = (run / "patched/model.safetensors").read_bytes()
    for part in ("save_chosen", "save_plots"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(reselect, part, interrupted)
            select_alpha(run, alpha=alpha)
        assert (run / "patched/model.safetensors").read_bytes() == before
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("hf_paint.patching.finish.render_model_card", interrupted)
        select_alpha(run, alpha=alpha)
    assert (run / "patched/model.safetensors").read_bytes() == before
    select_alpha(run, alpha=alpha)
    for path in sorted((whole / "patched").iterdir()):
        if path.suffix != ".png":
            assert path.read_bytes() == (run / "patched" / path.name).read_bytes()
    names = ({path.relative_to(folder) for path in folder.rglob("*")} for folder in (run, whole))
    assert next(names) == next(names)


def interrupted(*args, **keys):
    raise KeyboardInterrupt


def test_alpha_0_patches_nothing_and_says_so(run, capsys):
    assert main(["select", str(run), "--alpha", "0"]) == 0
    assert "Nothing was patched: alpha 0 was chosen by hand" in capsys.readouterr().out
    card = (run / "patched/README.md").read_text()
    assert "not patched on first\n" in card
    assert "Nothing was patched: alpha 0 was chosen by hand. This is the base model itself." in card


def test_a_push_publishes_the_new_choice(run, tmp_path):
    alpha = another(run)
    select_alpha(run, alpha=alpha)
    publication = Publication.from_run(run, "me/clip", base_model_id="o/clip")
    assert publication.branches["main"] == alpha
    publication.write_model(alpha, tmp_path / "main")
    expected = run / "variants" / f"alpha-{alpha:.2f}" / "model.safetensors"
    assert (tmp_path / "main/model.safetensors").read_bytes() == expected.read_bytes()


def test_the_command_shows_before_it_writes(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    assert main(["select", str(run), "--tolerance", "0.5", "--dry_run"]) == 0
    dry = capsys.readouterr().out
    assert "Accuracy on test images in percent, by alpha; the row in bold was chosen:" in dry
    assert "| task | role | test images | before | after | gain (95 % interval) |" in dry
    assert dry.endswith("Dry run: nothing was changed.\n")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    assert main(["select", str(run), "--tolerance", "0.5"]) == 0
    said = capsys.readouterr().out
    chosen = json.loads((run / "selection.json").read_text())["alpha"]
    made = f"alpha {chosen:.2f}: {run / 'patched'}\nreport: {run / 'report.html'}\n"
    assert said == dry.removesuffix("Dry run: nothing was changed.\n") + made


def test_a_run_without_a_rule_gets_a_model(model_folder, tasks, runs, tmp_path, no_images):
    """`selection: none` trained and evaluated all that a choice needs."""
    folder = shutil.copytree(runs / "plain", tmp_path / "run")
    shutil.rmtree(folder / "patched")
    (folder / "selection.json").unlink()
    recipe = yaml.safe_load((folder / "recipe.yaml").read_text())
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe | {"selection": "none"}))
    with pytest.raises(InputError, match="Pass one of mean, supported_within, entropy, or an alpha"):
        select_alpha(folder)
    select_alpha(folder, selection="mean")
    for name in ("selection.json", "patched/model.safetensors"):
        assert (folder / name).read_bytes() == (runs / "plain" / name).read_bytes()


def test_what_cannot_be_chosen(run, model_folder, tasks, tmp_path):
    bad = {
        "alpha 0.30 was not evaluated in this run. Choose one of: 0.00; 0.25; 0.50; 1.00": {"alpha": 0.3},
        "Unknown selection rule 'meen'. Did you mean 'mean'": {"selection": "meen"},
        "`tolerance` must be at least 0 and below 1": {"tolerance": 2},
        "`mean` has no tolerance": {"selection": "mean", "tolerance": 0.1},
        "either an alpha, or a selection rule": {"selection": "mean", "alpha": 0.5},
    }
    for message, keys in bad.items():
        with pytest.raises(InputError, match=message):
            select_alpha(run, **keys)
    with pytest.raises(InputError, match="has no recipe.yaml. Pass the output_dir of a run"):
        select_alpha(tmp_path)
    recipe = yaml.safe_load((run / "recipe.yaml").read_text())
    for changes, keys, message in (
        ({"strategy": "sequential"}, {"alpha": 0.5}, "each step chose its own alpha"),
        ({"method": {"greedy_soup": {"score": "selection"}}}, {"tolerance": 0.5}, "another rule needs another run"),
        ({"model": "a model in memory (1234)"}, {"alpha": 0.5}, "needs the files of the base"),
        ({"base_fingerprint": "1234"}, {"alpha": 0.5}, "The base has changed"),
    ):
        (run / "recipe.yaml").write_text(yaml.safe_dump(recipe | changes))
        with pytest.raises(InputError, match=message):
            select_alpha(run, **keys)
    (run / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(tmp_path / "run/patched/model.safetensors", run / "theta_1/model.safetensors")
    with pytest.raises(InputError, match=r"theta_1/model\.safetensors has \d+ bytes instead of \d+\."):
        select_alpha(run, alpha=1.0)
    (run / "theta_1" / MANIFEST).unlink()  # as in a run of an earlier version
    with pytest.raises(InputError, match="are not those that this run evaluated"):
        select_alpha(run, alpha=1.0)
    shutil.rmtree(run / "theta_1")
    with pytest.raises(InputError, match="theta_1 is missing"):
        select_alpha(run, alpha=0.5)
    (run / "card.json").unlink()
    with pytest.raises(InputError, match="contains no finished run"):
        select_alpha(run, alpha=0.5)


def test_a_default_run_keeps_the_supported_tasks(model_folder, tasks, runs, run, capsys):
    """The default compares with alpha 0; without supported tasks, it says what to add."""
    args = arguments(run, **SHORT)
    options = PatchOptions(save_dtype="bfloat16", save_variants=True)
    result = patch_single(model_folder, tasks[0], [tasks[2]], args, alphas=ALPHAS, options=options)
    curve = result.curve
    side = {a: curve.get(a, "supported", "kept", "validation").correct for a in ALPHAS}
    total = curve.get(0.0, "supported", "kept", "validation").total
    kept = [a for a in ALPHAS if side[a] >= side[0.0] - 0.01 * total]
    gains = {a: curve.get(a, "patching", "first", "validation").correct for a in kept}
    assert result.alpha == min(kept, key=lambda a: (-gains[a], a))
    assert result.outcome.alpha == result.alpha
    assert result.summary.endswith(".")
    with pytest.raises(InputError, match="--supported_tasks cifar10`, name its .* `--selection none`"):
        patch_joint(model_folder, tasks[:2], [], args)
