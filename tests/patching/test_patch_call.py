"""The shortest call: `patch(model, data, keep=[...])`, what it passes on, and how its result shows itself."""

from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from torch.utils.data import TensorDataset
from transformers import EarlyStoppingCallback, TrainerCallback

import hf_paint
from drawn_tasks import write_task, write_task_yaml
from hf_paint import EMACallback, InputError, PatchResult, patch, patch_single
from patch_runs import arguments, weights


SHORT = {"learning_rate": 1e-3, "max_steps": 2, "warmup_steps": 1, "per_device_train_batch_size": 16, "use_cpu": True}
SHORT |= {"alphas": [0.0, 0.5, 1.0], "disable_tqdm": True, "num_examples": 0}


OPTIONS = {"weight_decay": 0.3, "save_variants": True, "selection": "supported_within", "tolerance": 0.2}
"""A training field, an option, and the rule."""


class Recorder(TrainerCallback):
    """Notes the folder and the number of steps of every training."""

    def __init__(self):
        self.trainings = []

    def on_train_end(self, args, state, control, **kwargs):
        self.trainings.append((Path(args.output_dir).name, state.global_step))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return {name: write_task_yaml(folder, name, seed=seed) for seed, name in enumerate(("colours", "others", "third"))}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    folder = tmp_path_factory.mktemp("small")
    names = ("colours", "others", "third")
    return {name: write_task(folder, name, train=32, test=4, seed=seed) for seed, name in enumerate(names)}


@pytest.fixture(scope="module")
def run(model_folder, data, tmp_path_factory):
    """A finished run in the default folder, and the callback that saw its training."""
    recorder, folder = Recorder(), tmp_path_factory.mktemp("call")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        result = patch(model_folder, data["colours"], keep=[data["others"]], callbacks=[recorder], **SHORT, **OPTIONS)
    return folder, result, recorder


def test_it_is_patch_single_with_a_default_folder(run, model_folder, data, tmp_path):
    folder, result, _ = run
    assert folder / result.run_folder == folder / "runs/tiny-clip-colours"
    args = arguments(tmp_path / "run", max_steps=2, warmup_steps=1, weight_decay=0.3)
    rule = {"alphas": [0.0, 0.5, 1.0], "selection": "supported_within", "tolerance": 0.2}
    same = patch_single(model_folder, data["colours"], [data["others"]], args, **rule)
    assert same.alpha == result.alpha
    found, expected = weights(folder / result.run_folder / "theta_1"), weights(same.run_folder / "theta_1")
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


def test_callbacks_see_the_training_once_and_are_not_recorded(run, model_folder, data, monkeypatch):
    folder, result, recorder = run
    assert recorder.trainings == [("tiny-clip-colours", 2)]
    assert "callbacks" not in yaml.safe_load((folder / result.run_folder / "recipe.yaml").read_text())
    monkeypatch.chdir(folder)
    again = patch(model_folder, data["colours"], keep=data["others"], callbacks=[recorder], **SHORT, **OPTIONS)
    assert len(recorder.trainings) == 1
    assert again.alpha == result.alpha


@pytest.mark.parametrize(
    ("options", "trainings"),
    {
        "ingredients": (
            {"method": "uniform_soup", "ingredients": [{"seed": [1, 2]}]},
            [("seed=1", 2), ("seed=2", 2)],
        ),
        "steps": ({"strategy": "sequential"}, [("step-1", 2), ("step-2", 2)]),
        "head and tower": ({"train_head": True, "head_steps": 3}, [("head", 3), ("run", 2)]),
    }.values(),
    ids=("ingredients", "steps", "head and tower"),
)
def test_callbacks_see_every_training(options, trainings, model_folder, small, tmp_path):
    """An instance sees all of them; of a class, each training makes its own."""
    made = []

    class Counted(Recorder):
        def __init__(self):
            super().__init__()
            made.append(self)

    recorder, names = Recorder(), ("colours", "third") if "strategy" in options else ("colours",)
    settings = SHORT | {"alphas": [1.0], "selection": "mean", "callbacks": [recorder, Counted]} | options
    patch(model_folder, [small[name] for name in names], small["others"], tmp_path / "run", **settings)
    assert recorder.trainings == trainings
    assert [callback.trainings for callback in made] == [[training] for training in trainings]


PICTURE = Image.new("RGB", (8, 8))
REFUSED = {
    "an unknown name": ({"max_step": 3}, "`patch` has no argument 'max_step'. Did you mean 'max_steps'?"),
    "an option misspelt": ({"shift_task": []}, "Did you mean 'shift_tasks'?"),
    "a rule misspelt": ({"toleranse": 0.1}, "Did you mean 'tolerance'?"),
    "an unknown strategy": ({"strategy": "sequentual"}, "Did you mean 'sequential'?"),
    "a word for a number": ({"max_steps": "many"}, "`max_steps` must be a number, got 'many'"),
    "a number as text": ({"learning_rate": "1e-4"}, "`learning_rate` must be a number, got '1e-4'"),
    "a switch as text": ({"use_cpu": "false"}, "`use_cpu` must be True or False, got 'false'"),
    "an option as text": ({"search_budget": "3"}, "`search_budget` must be a number, got '3'"),
    "a rule as text": ({"tolerance": "1%", "selection": "supported_within"}, "`tolerance` must be a number, got '1%'"),
    "no alpha": ({"alphas": "half"}, "half"),
    "a warm-up that is too long": ({"max_steps": 50, "warmup_steps": 200}, "0.1 is a tenth"),
    "nothing to keep": ({"keep": []}, "Pass the tasks to `keep`"),
    "nothing to learn": ({"data": []}, "`data` names no task"),
    "a function as callback": ({"callbacks": [print]}, "must be a `transformers.TrainerCallback`"),
    "one callback without a list": ({"callbacks": Recorder()}, "must be a list of callbacks"),
    "a method as callback": ({"callbacks": [EMACallback()]}, "Set `method: ema`"),
    "a method's class as callback": ({"callbacks": [EMACallback]}, "Set `method: ema`"),
    "no task": ({"data": None}, "got an object of type NoneType"),
    "a table": ({"data": pd.DataFrame({"image": ["a.png"], "label": ["cat"]})}, "got an object of type DataFrame"),
    "an array": ({"data": np.zeros((3, 8, 8, 3))}, "got an object of type ndarray"),
    "a data set of torch": ({"data": TensorDataset(torch.zeros(2, 3, 8, 8))}, "got an object of type TensorDataset"),
    "images without labels": (
        {"data": [PICTURE, PICTURE]},
        "a list of (image, label) tuples); got an object of type Image",
    ),
    "a number as task to keep": ({"keep": 3}, "got an object of type int"),
    "a module as model": ({"model": torch.nn.Linear(1, 1)}, "got an object of type Linear"),
    "a number as model": ({"model": 3}, "got an object of type int"),
}


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_refused_before_anything_is_loaded(change, message, data, tmp_path, monkeypatch):
    monkeypatch.setattr("hf_paint.patching.base.Base.load", lambda *_: pytest.fail("the base was loaded"))
    given = {"model": "me/clip", "data": data["colours"], "keep": data["others"], "output_dir": tmp_path} | SHORT
    with pytest.raises(InputError) as error:
        patch(**given | change)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        (None, None, "got an object of type NoneType"),
        ({"max_steps": 1}, None, "got an object of type dict"),
        ("args", {"sweep": "full"}, "`options` must"),
    ],
)
def test_settings_of_other_types_are_refused(args, options, message, data, tmp_path):
    given = arguments(tmp_path) if args == "args" else args
    with pytest.raises(InputError, match=message):
        patch_single("me/clip", data["colours"], data["others"], given, options=options)


def test_callbacks_of_no_training_are_refused(run, data, tmp_path):
    folder, result, recorder = run
    thetas = {"mine": str(folder / result.run_folder / "theta_1")}
    with pytest.raises(InputError, match="`callbacks: .*` would have no effect. Every model is given"):
        patch("me/clip", data["colours"], data["others"], tmp_path, thetas=thetas, callbacks=[recorder], **SHORT)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([(torch.zeros(3, 8, 8), "cat")] * 20, r"a picture of shape \(3, 8, 8\); an array must be"),
        ([(PICTURE, 0.5)] * 20, "must be all texts or all integers, got float"),
        ([(PICTURE, label) for label in np.arange(20)], "has no class names"),
        ([("/nowhere/cat.png", "cat")] * 20, "there is no such file"),
    ],
    ids=("channels first", "float labels", "numbers without names", "missing files"),
)
def test_pairs_of_other_types_are_refused(data, message, model_folder, small, tmp_path):
    with pytest.raises(InputError, match=message):
        patch(model_folder, data, small["others"], tmp_path, **SHORT)


def test_early_stopping_needs_evaluations(model_folder, data, tmp_path):
    given = SHORT | {"callbacks": [EarlyStoppingCallback()]}
    with pytest.raises(InputError, match="Set `eval_strategy`"):
        patch(model_folder, data["colours"], data["others"], tmp_path, **given)


def test_no_module_has_its_name():
    """`hf_paint.patch` is the function, and `import hf_paint.patching` does not change that."""
    assert callable(hf_paint.patch)
    assert hf_paint.patch is hf_paint.patching.patch
    assert hf_paint.adapters.patch.__name__ == "hf_paint.adapters.patch"


class Cells(HTMLParser):
    """The texts of a table's cells, and all tags."""

    def __init__(self, text):
        super().__init__()
        self.texts, self.tags = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.texts.append(data)


def test_a_result_shows_itself(run):
    _, result, _ = run
    shown = Cells(result._repr_html_())
    assert shown.tags <= {"p", "table", "tr", "th", "td", "b", "img"}
    for alpha in result.curve.alphas:
        record = result.curve.get(alpha, "supported", "others", "test")
        assert f"{100 * record.correct / record.total:.2f}" in shown.texts
    assert f"<b>{'0 (zero-shot)' if result.alpha == 0 else f'{result.alpha:.2f}'}" in result._repr_html_().replace(
        "1 (fine-tuned)", "1.00"
    )
    before, after = (result.curve.get(alpha, "patching", "colours", "test") for alpha in (0.0, result.alpha))
    change = f"colours {100 * before.correct / before.total:.1f} -> {100 * after.correct / after.total:.1f}"
    assert change in repr(result)
    assert "tiny-clip-colours" in repr(result)
    assert len(repr(result)) < 200
    assert "3 alphas" in repr(result.curve)
    assert "<table>" in result.curve._repr_html_()


def test_names_are_escaped(tmp_path):
    name = "<script>alert('&')</script>"
    curve = hf_paint.AlphaCurve.from_accuracies([0.0, 1.0], patching={name: [0.5, 1.0]}, supported={})
    result = PatchResult(alpha=None, curve=curve, run_folder=tmp_path / "<b>", model=None)
    shown = Cells(result._repr_html_())
    assert f"{name} (patching)" in shown.texts
    assert shown.tags <= {"p", "table", "tr", "th", "td", "b", "img"}
    assert "no alpha chosen" in repr(result)


def test_options_reach_the_recipe(run):
    folder, result, _ = run
    recipe = yaml.safe_load((folder / result.run_folder / "recipe.yaml").read_text())
    assert {name: recipe[name] for name in OPTIONS} == OPTIONS
    assert (folder / result.run_folder / "variants").is_dir()
