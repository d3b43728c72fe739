"""Every recipe key of `hf-paint patch` reaches the patching function, and every other flag has an effect."""

import json
from dataclasses import fields

import pytest

from drawn_tasks import write_task_yaml
from hf_paint.cli import run_recipe as module
from hf_paint.cli.main import main
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.results.resuming import conflicts


KEYS = {
    "model": "another/model",
    "model_revision": "v1",
    "strategy": "joint",
    "patching_tasks": ["mnist"],
    "supported_tasks": ["mnist"],
    "transfer_tasks": ["mnist"],
    "shift_tasks": ["mnist"],
    "replay_tasks": ["mnist"],
    "alphas": [0.25],
    "selection": "none",
    "tolerance": 0.2,
    "save_variants": True,
    "save_dtype": "bfloat16",
    "base_model_id": "me/clip",
    "precision": "bf16",
    "max_eval_images": 500,
    "sweep": "adaptive",
    "verify": True,
    "method": "lines",
    "ingredients": [{"seed": [0, 1]}],
    "extrapolate": True,
    "thetas": {"mnist": "me/clip"},
    "search": "random",
    "search_budget": 5,
    "baseline": [[0.5, 0.3], [0.7, 0.6]],
    "compare_ensemble": True,
    "num_examples": 3,
    "num_orders": 2,
    "merge": "projection",
    "base_fingerprint": "abc",
}
"""Recipe key -> a value other than the default."""


def test_no_key_is_missing():
    """A key that is added must be listed here."""
    assert KEYS.keys() == {f.name for f in fields(PatchRecipe)}


@pytest.mark.parametrize("key", KEYS)
def test_a_key_reaches_the_patching_function(key, recipe, monkeypatch):
    """What the functions do with it is tested in tests/patching/test_every_option.py."""
    calls = []

    class Called(Exception):
        pass

    def record(name):
        def patch(model, patching, supported, args, *, options, **rule):
            names = [task.name for task in ([patching] if name == "single" else patching)]
            given = {f.name: getattr(options, f.name) for f in fields(options)}
            calls.append([name, model, names, [task.name for task in supported], rule, given])
            raise Called

        return patch

    monkeypatch.setattr(module, "patch_single", record("single"))
    monkeypatch.setattr(module, "SEVERAL", {"joint": record("joint")})
    for changes in ({}, {key: KEYS[key]}):
        recipe(**changes)
    assert len(calls) == 2
    assert calls[0] != calls[1]


REFUSED = {
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "fp16": True,
    "optim": "adamw_8bit",
    "report_to": "comet_ml",
    "resume_from_checkpoint": "/nowhere",
    "task_sampling": "uniform",
    "tolerance": 1.2,
    "verify": True,
    "model": "epoch_5.pt",
}
"""Recipe key -> a value that a run on one task, on a CPU, cannot use."""


@pytest.mark.parametrize(("key", "value"), REFUSED.items())
def test_a_key_without_effect_is_one_line_and_exit_code_2(key, value, recipe, tmp_path, capsys):
    assert recipe(**{key: value}) == 2
    [line] = [line for line in capsys.readouterr().err.splitlines() if "hf-paint: " in line]
    shown = json.dumps(value) if isinstance(value, dict) else str(value)
    assert shown in line or f"{key}: true" in line
    assert key in line or key == "model"
    assert not (tmp_path / "run").exists()


def test_a_mapping_in_a_recipe_reaches_a_training_field(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "model: m\npatching_tasks: [mnist]\nselection: none\noutput_dir: out\nuse_cpu: true\n"
        "lr_scheduler_type: cosine_with_min_lr\n"
        "lr_scheduler_kwargs: {min_lr: 1e-6, num_cycles: 2}\n"
    )
    _, args = module.parse_recipe(str(path), [])
    assert args.lr_scheduler_kwargs == {"min_lr": 1e-6, "num_cycles": 2}


def test_help_all_lists_the_fields_of_transformers(capsys):
    assert main(["patch", "--help_all"]) == 0
    assert "--adam_beta2" in capsys.readouterr().out


@pytest.mark.parametrize("value", [["--use_cpu"], ["--use_cpu", "true"], ["--use_cpu=True"], ["--use_cpu", "yes"]])
def test_a_flag_takes_true_as_in_a_recipe(value, model_folder, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("accelerate.Accelerator", lambda cpu: seen.append(cpu) or pytest.skip.Exception)
    task = write_task_yaml(tmp_path, "colours", train=20, test=4)
    main(["evaluate", model_folder, "--tasks", task, *value])
    main(["evaluate", model_folder, "--tasks", task, "--use_cpu", "false"])
    main(["evaluate", *value[:1], model_folder, "--tasks", task])
    assert seen == [True, False, True]


def test_a_flag_takes_nothing_else(model_folder, capsys):
    assert main(["evaluate", model_folder, "--tasks", "mnist", "--use_cpu=perhaps"]) == 2
    assert "--use_cpu must be true or false, got 'perhaps'" in capsys.readouterr().err


def test_a_negative_alpha_may_be_written_with_an_exponent(model_folder, tmp_path, capsys):
    """As YAML and Python write a small one, e.g. what `np.arange(-1, 1.1, 0.1)` has in place of 0."""
    (tmp_path / "recipe.yaml").write_text("alphas: [-2.220446049250313e-16, -5e-05]")
    required = ["--model", "me/clip", "--patching_tasks", "mnist", "--selection", "none"]
    required += ["--output_dir", str(tmp_path), "--use_cpu"]
    recipe, _ = module.parse_recipe(str(tmp_path / "recipe.yaml"), required)
    assert recipe.alphas == [-2.220446049250313e-16, -5e-05]
    recipe, _ = module.parse_recipe(None, [*required, "--alphas", "-5e-05", "-.5", "1"])
    assert recipe.alphas == [-5e-05, -0.5, 1.0]
    flags = ["--alphas", "-5e-05", "1e-07", "--output_dir", str(tmp_path / "out"), "--extrapolate"]
    assert main(["interpolate", model_folder, model_folder, *flags]) == 0
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"alpha--0.00005", "alpha-0.0000001"}


def test_what_changes_no_weight_may_change_when_a_run_resumes():
    keys = ("extrapolate", "activation_checkpointing", "gradient_checkpointing", "log_level", "logging_steps")
    for key in (*keys, "save_dtype", "save_variants"):
        assert conflicts({"alphas": [0.5]}, {"alphas": [0.5, 1.5], key: True}) == []


def test_the_order_and_number_of_images_may_not_change_when_a_run_resumes():
    for key in ("dataloader_drop_last", "dataloader_in_order"):
        assert conflicts({}, {key: True}) == [key]
    for key in ("dataloader_num_workers", "dataloader_pin_memory", "dataloader_prefetch_factor"):
        assert conflicts({}, {key: 3}) == []
