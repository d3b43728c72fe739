"""Reading the keys of a recipe: names and types of fields, paths, the default folder, and the time it takes."""

import subprocess
import sys
from dataclasses import fields
from enum import Enum
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import yaml

from hf_paint.cli.main import main
from hf_paint.cli.recipe_keys import read_keys
from hf_paint.cli.run_recipe import parse_recipe
from hf_paint.cli.training_fields import training_fields
from hf_paint.results.run_names import default_run_folder
from hf_paint.training.training_args import PaintTrainingArguments


def spelled(kind):
    """A type with the values of an enumeration instead of its name, and text for other classes of transformers."""
    if isinstance(kind, type) and issubclass(kind, Enum):
        return frozenset(member.value for member in kind)
    if isinstance(kind, type) and kind.__module__ != "builtins":
        return str
    parts = get_args(kind)
    return (getattr(kind, "__origin__", type(kind)), *map(spelled, parts)) if parts else kind


def test_fields_read_from_source_are_those_of_the_class():
    """`dataclasses` and `typing` read the imported class; `training_fields` reads its source."""
    hints = get_type_hints(PaintTrainingArguments)
    imported = {f.name: spelled(hints[f.name]) for f in fields(PaintTrainingArguments) if f.init}
    read = {name: spelled(kind) for name, kind in get_type_hints(training_fields()).items()}
    assert len(read) > 100
    assert read == imported


@pytest.mark.parametrize("arguments", [["--foo", "1"], ["--max_steps", "many"], [], ["--patching_tasks", "minst"]])
def test_a_mistake_in_the_keys_is_answered_at_once(arguments):
    """And without torch; the time is that of the processor, because other tests use it, too."""
    program = (
        "import sys, time\nfrom hf_paint.cli.main import main\n"
        f"code = main({['patch', '--model', 'me/clip', *arguments]!r})\n"
        "heavy = {'torch', 'transformers', 'datasets', 'accelerate'} & set(sys.modules)\n"
        "print(time.process_time())\nsys.exit(f'imported {heavy}' if heavy or code != 2 else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stderr.startswith("hf-paint: ")
    assert float(done.stdout) < 2


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("report_to", ["tensorboard", "wandb"], ["tensorboard", "wandb"]),
        ("report_to", ["wandb"], "wandb"),
        ("report_to", "wandb", "wandb"),
        ("optim_target_modules", ["q_proj", "v_proj"], ["q_proj", "v_proj"]),
        ("optim_target_modules", "all-linear", "all-linear"),
        ("debug", ["underflow_overflow"], "underflow_overflow"),
        ("lora_target_modules", ["q_proj"], ["q_proj"]),
    ],
)
def test_a_field_of_texts_takes_one_or_several_in_a_recipe_and_as_flags(key, value, read, tmp_path):
    base = {"model": str(tmp_path), "patching_tasks": ["mnist"], "selection": "none"}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(base | {key: value}))
    assert read_keys(str(tmp_path / "recipe.yaml"), []).training == {key: read}
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(base))
    flags = [f"--{key}", *([value] if isinstance(value, str) else value)]
    assert read_keys(str(tmp_path / "recipe.yaml"), flags).training == {key: read}


def test_paths_are_relative_to_the_recipe_or_else_to_the_working_directory(tmp_path, monkeypatch):
    recipes, here = tmp_path / "recipes", tmp_path / "here"
    for path in (
        "recipes/clip",
        "here/clip",
        "here/other",
        "recipes/theta",
        "recipes/textures/cat",
        "recipes/pets/dog",
    ):
        (tmp_path / path).mkdir(parents=True)
    (recipes / "mnist").mkdir()  # a built-in name stays one
    (recipes / "data.parquet").write_text("")
    keys = {
        "model": "clip",
        "strategy": "parallel",
        "patching_tasks": [
            "textures/",
            "mnist",
            {"name": "a", "dataset": "parquet", "data_files": {"test": "data.parquet"}},
        ],
        "thetas": {"mnist": "theta", "textures": "me/clip"},
        "supported_tasks": ["cifar10"],
        "output_dir": "runs/a",
    }
    for task in ("textures", "pets"):
        (recipes / task / "cat").mkdir(exist_ok=True)
        (recipes / task / "cat" / "0.png").write_text("")
    (recipes / "recipe.yaml").write_text(yaml.safe_dump(keys))
    monkeypatch.chdir(here)
    found = read_keys("../recipes/recipe.yaml", ["--use_cpu"])
    assert found.recipe["model"] == str(recipes / "clip")
    first, second, third = found.recipe["patching_tasks"]
    assert (Path(first), second) == (recipes / "textures", "mnist")
    assert yaml.safe_load(third)["data_files"] == {"test": str(recipes / "data.parquet")}
    assert yaml.safe_load(found.recipe["thetas"]) == {"mnist": str(recipes / "theta"), "textures": "me/clip"}
    assert found.training["output_dir"] == "runs/a"
    (recipes / "recipe.yaml").write_text(yaml.safe_dump(keys | {"model": "other"}))
    assert read_keys("../recipes/recipe.yaml", []).recipe["model"] == "other"
    assert read_keys("../recipes/recipe.yaml", ["--model", "clip"]).recipe["model"] == "clip"


def test_the_run_folder_is_named_after_the_model_and_the_tasks(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a recipe.yaml").write_text(
        "{name: colours of things, dataset: parquet, data_files: {test: a.parquet}}"
    )
    flags = [
        "--model",
        "openai/clip-vit-base-patch32",
        "--use_cpu",
        "--supported_tasks",
        "cifar10",
        "--patching_tasks",
    ]
    for tasks, folder in (
        (["mnist"], "runs/clip-vit-base-patch32-mnist"),
        (["mnist", "svhn", "--strategy", "joint"], "runs/clip-vit-base-patch32-mnist-svhn-joint"),
    ):
        assert parse_recipe(None, [*flags, *tasks])[1].output_dir == folder
    assert default_run_folder("./", ["a/b c", "猫"]) == f"runs/{tmp_path.name}-a-b-c-猫"
    long, other = (default_run_folder("me/clip", ["x" * 300, last]) for last in "ab")
    assert long != other
    assert len(Path(long).name) <= 80
    assert default_run_folder("me/..", ["../.."]).count("/") == 1


def test_all_missing_keys_are_named_at_once(capsys):
    assert main(["patch", "--max_steps", "3"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "`model`" in line
    assert "`patching_tasks`" in line


@pytest.mark.parametrize("program", [["-m", "hf_paint", "--version"], ["-m", "hf_paint.cli", "--version"]])
def test_versions_are_shown_without_imports(program):
    import torch
    import transformers

    import hf_paint

    command = [sys.executable, "-X", "importtime", *program]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "hf_paint.cli.main" in imported
    assert not {"torch", "transformers", "datasets", "accelerate"} & imported
    shown = dict(line.split() for line in done.stdout.splitlines())
    assert shown["hf-paint"] == hf_paint.__version__
    assert shown["torch"].split("+")[0] == torch.__version__.split("+")[0]  # only one of them may name the CUDA build
    assert shown["transformers"] == transformers.__version__


@pytest.mark.parametrize("text", ["--learning_rate", "--", "-", "--seed=3", "-x"])
def test_a_value_of_a_recipe_is_no_flag_whatever_it_begins_with(text, tmp_path):
    path = tmp_path / "recipe.yaml"
    recipe = {
        "model": "o/clip",
        "patching_tasks": ["mnist"],
        "supported_tasks": ["cifar10"],
        "lora_target_modules": [text, "fc1", text],
        "run_name": text,
    }
    path.write_text(yaml.safe_dump(recipe | {"alphas": [-0.5, 0, 1], "learning_rate": "1e-3"}))
    keys = read_keys(str(path), ["--seed", "7"])
    assert keys.training["lora_target_modules"] == [text, "fc1", text]
    assert keys.training["run_name"] == text
    assert keys.recipe["alphas"] == [-0.5, 0.0, 1.0]
    assert (keys.training["learning_rate"], keys.training["seed"]) == (1e-3, 7)


@pytest.mark.parametrize("flags", [["--hub_token", "hf_planted"], ["--hub_token=hf_planted"]])
def test_a_token_among_the_flags_is_taken_off_the_command_line_that_trackers_record(flags, tmp_path, monkeypatch):
    rest = ["--model", "o/clip", "--patching_tasks", "mnist", "--supported_tasks", "cifar10", "--use_cpu", "true"]
    command = ["hf-paint", "patch", *rest, "--output_dir", str(tmp_path), *flags]
    monkeypatch.setattr("sys.argv", command)
    _, args = parse_recipe(None, command[2:])
    assert args.hub_token == "hf_planted"
    assert not any("hf_planted" in part for part in sys.argv)
    assert sys.argv[: -len(flags)] == command[: -len(flags)]
