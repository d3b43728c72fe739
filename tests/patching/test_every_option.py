"""Every option of a run changes what the run leaves behind, or is refused before anything is loaded."""

import hashlib
import json
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from drawn_tasks import write_task
from hf_paint import InputError, PatchOptions, patch_joint, patch_parallel, patch_sequential, patch_single
from hf_paint.models.towers import image_tower_weights
from hf_paint.patching import base, fine_tuning, request_checks
from hf_paint.patching.base import Base
from hf_paint.patching.recipe import Rule
from hf_paint.patching.unread_options import ARGUMENTS, OPTIONS
from hf_paint.results.plots import kinds
from patch_runs import arguments


PATCH = {"single": patch_single, "joint": patch_joint, "sequential": patch_sequential, "parallel": patch_parallel}
SEARCH = {"strategy": "parallel"}
SHIFT = {"shift_tasks": ["third"]}
ADAPTIVE = {"sweep": "adaptive", "alphas": [step / 20 for step in range(21)]}

CHANGES = {
    "alphas": [0.0, 0.25, 1.0],
    "selection": "none",
    "transfer_tasks": ["third"],
    "shift_tasks": ["third"],
    "replay_tasks": ["third"],
    "save_variants": True,
    "save_dtype": "bfloat16",
    "base_model_id": "me/clip",
    "precision": "bf16",
    "max_eval_images": 3,
    "sweep": "adaptive",
    "verify": (True, ADAPTIVE),
    "method": "lines",
    "ingredients": ([{"seed": [1, 2]}], {"method": "uniform_soup", "thetas": {"x": "THETA", "y": "THETA"}}),
    "extrapolate": (True, {"alphas": [0.0, 1.5]}),
    "thetas": {"x": "THETA"},
    "search": ("random", SEARCH),
    "search_budget": (2, SEARCH),
    "baseline": ([(0.5, 0.3), (0.7, 0.6), (0.9, 0.8)], SHIFT),
    "num_examples": 1,
    "compare_ensemble": True,
    "num_orders": (2, {"strategy": "sequential"}),
    "merge": ("projection", {"strategy": "sequential"}),
}
"""Option -> a value that changes the run folder, or (value, other options it is used with)."""

LOADING = ("model_revision", "processor", "base_fingerprint")
"""Options that say how the base is loaded (see `test_an_option_changes_how_the_base_is_loaded`)."""
CODE = ("callbacks",)
"""Options that are code, which no recipe records (see `test_patch_call.py`)."""

REFUSED = {
    "tolerance and mean": ({"tolerance": 0.2, "selection": "mean"}, "selection: supported_within"),
    "tolerance and none": ({"tolerance": 0.2, "selection": "none"}, "selection: supported_within"),
    "verify and a full sweep": ({"verify": True}, "sweep: adaptive"),
    "variants of steps": ({"save_variants": True, "strategy": "sequential"}, "a line of alphas"),
    "variants of a search": ({"save_variants": True, "strategy": "parallel"}, "a line of alphas"),
    "revision of a folder": ({"model_revision": "v1"}, "a model on the Hub"),
    "nothing to save in a dtype": ({"save_dtype": "bfloat16", "selection": "none"}, "`save_variants`"),
    "no card for the base": ({"base_model_id": "me/clip", "selection": "none"}, "Set a `selection`"),
    "no card for examples": ({"num_examples": 3, "selection": "none"}, "saves a patched model"),
    "search for one coefficient": ({"search": "random", "strategy": "parallel", "one": True}, "nothing to search"),
    "budget for one coefficient": ({"search_budget": 3, "strategy": "parallel", "one": True}, "nothing to search"),
    "search of another strategy": ({"search": "random"}, "`search` needs `strategy: parallel`"),
    "orders of another strategy": ({"num_orders": 2}, "`num_orders` needs `strategy: sequential`"),
    "nothing to train with": ({"replay_tasks": ["third"], "thetas": {"x": "THETA"}}, "nothing is trained"),
    "merge of another strategy": ({"merge": "projection"}, "`merge` needs `strategy: sequential`"),
    "unknown merge": ({"merge": "opcm"}, "`merge` must be one of sequential, projection, got 'opcm'"),
    "a method of steps by projection": (
        {"merge": "projection", "method": "lines", "strategy": "sequential"},
        "merges the models of the tasks itself",
    ),
    "unknown dtype": ({"save_dtype": "int8"}, "`save_dtype` must be one of float32, bfloat16, float16, got 'int8'"),
    "unknown precision": ({"precision": "fp16"}, "`precision` must be one of auto, fp32, bf16, got 'fp16'"),
    "no images": ({"max_eval_images": 0}, "`max_eval_images` must be a positive number of images, got 0"),
    "unknown sweep": ({"sweep": "adaptve"}, "got 'adaptve'. Did you mean 'adaptive'?"),
    "unknown selection": ({"selection": "meen"}, "got 'meen'. Did you mean 'mean'?"),
    "unknown search": ({"search": "cobyla", "strategy": "parallel"}, "Did you mean 'cobyqa'?"),
}
"""Options that a run refuses before anything is loaded -> what the message says."""

REFUSED_ARGUMENTS = {
    "task_sampling": "uniform",
    "replay_share": 0.5,
    "resume_from_checkpoint": "/nowhere",
    "do_train": True,
    "do_eval": True,
    "do_predict": True,
    "hub_model_id": "me/clip",
    "hub_private_repo": True,
    "hub_strategy": "end",
    "hub_revision": "trial",
    "hub_always_push": True,
}
"""Training argument -> a value that training on one task, without publishing, does not read."""


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return {
        name: write_task(folder, name, train=20, test=4, seed=seed)
        for seed, name in enumerate(("first", "other", "third", "fourth"))
    }


@pytest.fixture(scope="module")
def theta(model_folder, tasks, tmp_path_factory):
    """A fine-tuned model, for `thetas`."""
    return run(model_folder, tasks, tmp_path_factory.mktemp("theta") / "run", seed=3).run_folder / "theta_1"


@pytest.fixture(scope="module")
def unchanged():
    """Run folders of the options that only accompany another one."""
    return {}


def run(model_folder, tasks, folder, *, theta=None, strategy="single", one=False, seed=0, **options):
    """Run with training replaced by noise that depends on the tasks and the seed, and without plots."""
    rule = {name: options.pop(name) for name in ("alphas", "selection", "tolerance") if name in options}
    for role in ("transfer_tasks", "shift_tasks", "replay_tasks"):
        if role in options:
            options[role] = [tasks[name] for name in options[role]]
    if "thetas" in options:
        options["thetas"] = dict.fromkeys(options["thetas"], str(theta))
    several = strategy != "single" and not one
    patching = [tasks["first"], tasks["fourth"]] if several else [tasks["first"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning, "_train", noise)
        patch.setattr(kinds, "save_run_plots", lambda folder, *_: folder.curve_plot.write_text("plot"))
        return PATCH[strategy](
            model_folder,
            patching[0] if strategy == "single" else patching,
            [tasks["other"]],
            arguments(folder, seed=seed),
            **{"alphas": [0.0, 0.5, 1.0]} | rule,
            options=PatchOptions(**{"search_budget": 6} | options if strategy == "parallel" and several else options),
        )


def noise(run, tasks, folder, args):
    generator = torch.Generator().manual_seed(args.seed + sum(map(ord, "".join(task.name for task in tasks))))
    weights = image_tower_weights(run.base.model)
    return {name: x + 0.1 * torch.randn(x.shape, generator=generator) for name, x in weights.items()}


def left_behind(folder):
    """The contents of a run folder without the copies of the recipe in it, and the pages made of the rest."""
    contents = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name not in ("recipe.yaml", "step.yaml", "README.md", "report.html", ".lock"):
            contents[str(path.relative_to(folder))] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in [name for name in contents if name.endswith("selection.json")]:
        selection = json.loads((folder / name).read_text())
        contents[name] = repr([selection["alpha"], selection["gains"]])
    return contents


def test_no_option_is_missing():
    """An option that is added must be listed here."""
    given = {f.name for kind in (PatchOptions, Rule) for f in fields(kind)}
    assert {*CHANGES, *LOADING, *CODE, "tolerance"} == given
    assert {*OPTIONS} <= {name for options, _ in REFUSED.values() for name in options} | {"processor", *CODE}
    assert {*ARGUMENTS} == {*REFUSED_ARGUMENTS, "sampling_temperature"}


@pytest.mark.parametrize("name", CHANGES)
def test_an_option_changes_the_run_folder(name, unchanged, model_folder, tasks, theta, tmp_path):
    entry = CHANGES[name]
    value, others = entry if isinstance(entry, tuple) else (entry, {})
    if name == "extrapolate":
        with pytest.raises(InputError, match="alpha must be in"):
            run(model_folder, tasks, tmp_path / "run", **others)
        others = {"alphas": [0.0, 0.5]} | others
    elif repr(others) not in unchanged:
        run(model_folder, tasks, tmp_path / "unchanged", theta=theta, **others)
        unchanged[repr(others)] = left_behind(tmp_path / "unchanged")
    run(model_folder, tasks, tmp_path / "changed", theta=theta, **others | {name: value})
    assert left_behind(tmp_path / "changed") != unchanged.get(repr(others))


def test_the_tolerance_reaches_the_choice():
    """How it changes the choice is tested in tests/results/test_curve.py."""
    curve = SimpleNamespace(select=lambda selection, *, tolerance, baseline: tolerance)
    assert Rule(alphas=[], selection="supported_within", tolerance=0.3).choose(curve) == 0.3


def test_numbers_of_numpy_are_numbers(model_folder, tasks, tmp_path):
    """A grid of learning rates or seeds is often an array."""
    numbers = {"tolerance": np.float32(0.25), "extrapolate": np.True_, "selection": "supported_within"}
    learning_rate, seed = np.logspace(-4, -3, 2)[0], np.arange(3)[2]
    ingredients = [{"learning_rate": np.array([learning_rate]), "seed": (0, seed)}]
    options = {"method": "uniform_soup", "ingredients": ingredients} | numbers
    alphas = {run(model_folder, tasks, tmp_path / "run", seed=seed, **options).alpha for _ in range(2)}
    assert len(alphas) == 1
    recipe = yaml.safe_load((tmp_path / "run/recipe.yaml").read_text())
    assert recipe["ingredients"] == [{"learning_rate": [1e-4], "seed": [0, 2]}]
    assert (recipe["seed"], recipe["tolerance"], recipe["extrapolate"]) == (2, 0.25, True)


def test_two_runs_with_the_same_options_do_not_differ(model_folder, tasks, tmp_path):
    """Without this, every option would seem to change something."""
    for strategy in ("single", "parallel"):
        folders = [tmp_path / f"{strategy}-{number}" for number in (1, 2)]
        for folder in folders:
            run(model_folder, tasks, folder, strategy=strategy)
        assert left_behind(folders[0]) == left_behind(folders[1])


def test_an_option_changes_how_the_base_is_loaded(model_folder, model, processor, monkeypatch):
    revisions = []
    load = base.load_clip
    monkeypatch.setattr(
        base, "load_clip", lambda name, revision="main": revisions.append(revision) or load(model_folder)
    )
    Base.load("me/clip", PatchOptions(model_revision="v1"))
    assert revisions == ["v1"]
    with pytest.raises(InputError, match="The base has changed"):
        Base.load(model_folder, PatchOptions(base_fingerprint="another"))
    assert Base.load(model, PatchOptions(processor=processor)).processor is processor
    with pytest.raises(InputError, match="needs a processor"):
        Base.load(model, PatchOptions())


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_an_option_without_effect_is_refused_before_anything_is_loaded(options, message, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(Base, "load", lambda *_: pytest.fail("the base was loaded"))
    folder = tmp_path / "model"
    folder.mkdir()
    with pytest.raises(InputError) as error:
        run(str(folder), tasks, tmp_path / "run", **options)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_processor_of_a_model_on_disk_is_refused(model_folder, tasks, processor, tmp_path):
    with pytest.raises(InputError, match="has its own processor"):
        run(model_folder, tasks, tmp_path / "run", processor=processor)


@pytest.mark.parametrize(("name", "value"), REFUSED_ARGUMENTS.items())
def test_an_argument_that_a_run_does_not_read_is_refused(name, value, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(Base, "load", lambda *_: pytest.fail("the base was loaded"))
    args = arguments(tmp_path / "run", **{name: value})
    shown = str(value).lower() if isinstance(value, bool) else value
    with pytest.raises(InputError, match=f"`{name}: {shown}` would have no effect"):
        patch_single("me/clip", tasks["first"], [tasks["other"]], args)


def test_sampling_of_one_task_among_ingredients_is_refused(tasks, tmp_path):
    options = PatchOptions(method="uniform_soup", ingredients=[{"task_sampling": ["uniform", "proportional"]}])
    with pytest.raises(InputError, match="`task_sampling: uniform` would have no effect"):
        patch_single("me/clip", tasks["first"], [tasks["other"]], arguments(tmp_path / "run"), options=options)


def test_defaults_are_never_refused(tasks, tmp_path, monkeypatch):
    """Also when they are written out, as in a resolved recipe."""
    monkeypatch.setattr(Base, "load", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    options = {f.name: f.default for f in fields(PatchOptions) if f.name in OPTIONS}
    for strategy in PATCH:
        with pytest.raises(KeyboardInterrupt):
            run("me/clip", tasks, tmp_path / "run", strategy=strategy, **options | {"tolerance": 0.01})


def test_arguments_that_nothing_trains_with_are_named(model_folder, tasks, theta, tmp_path, caplog):
    run(model_folder, tasks, tmp_path / "run", theta=theta, thetas={"x": "THETA"})
    [message] = [line for line in caplog.text.splitlines() if "nothing is trained" in line]
    assert all(name in message for name in ("learning_rate", "max_steps", "warmup_steps"))
    assert not any(name in message for name in ("output_dir", "use_cpu"))


@pytest.mark.parametrize("side", ["no supported tasks", "bare supported task", "bare patching task"])
def test_a_side_without_validation_images_is_refused_before_anything_is_loaded(side, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(Base, "load", lambda *_: pytest.fail("the base was loaded"))
    bare = write_task(tmp_path, "bare", splits={"validation": None})
    patching = bare if side == "bare patching task" else tasks["first"]
    supported = {"no supported tasks": [], "bare supported task": [bare]}.get(side, [tasks["other"]])
    with pytest.raises(InputError, match="`selection: supported_within` needs validation images, but no"):
        patch_single("me/clip", patching, supported, arguments(tmp_path / "run"))


def test_another_format_among_the_thetas_is_refused_before_anything_is_loaded(
    tasks, adapter_folder, tmp_path, monkeypatch
):
    monkeypatch.setattr(Base, "load", lambda *_: pytest.fail("the base was loaded"))
    checkpoint = tmp_path / "epoch_5.pt"
    checkpoint.write_bytes(b"weights")
    for theta, message in {
        adapter_folder: "is a peft adapter. Merge it into its base: hf-paint interpolate BASE --adapter",
        str(checkpoint): "is a single file, but a model is a folder or a Hub repository id. To convert",
    }.items():
        with pytest.raises(InputError, match=message):
            patch_single(
                "me/clip",
                tasks["first"],
                [tasks["other"]],
                arguments(tmp_path / "run"),
                options=PatchOptions(thetas={"mine": theta}),
            )


def test_every_choice_is_checked():
    """The names that a field may take are read from its type, so a new field cannot be forgotten."""
    request_checks.check_choices(PatchOptions())
    request_checks.check_choices(Rule(alphas=[0.5]))
