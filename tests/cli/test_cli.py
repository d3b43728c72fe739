import json
import re
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from drawn_tasks import write_task_yaml
from hf_paint.cli.main import main
from hf_paint.cli.recipe import COMMON_TRAINING_FIELDS, PatchRecipe
from hf_paint.results.alphas import alpha_from_json, format_alpha
from hf_paint.training.training_args import PaintTrainingArguments


COMMANDS = [
    *([], ["quickstart"], ["patch"], ["evaluate"], ["interpolate"], ["extract-lora"], ["convert"], ["compare"]),
    *(["check"], ["apply"], ["report"], ["push"], ["select"], ["variants"], ["tasks"], ["demo"]),
]


def test_patch_from_a_recipe_and_again_from_the_resolved_one(recipe, tmp_path, capsys):
    assert recipe("--learning_rate", "2e-3", "--alphas", "0", "1") == 0
    assert "| 0 (zero-shot) |" in capsys.readouterr().out
    resolved = yaml.safe_load((tmp_path / "run" / "recipe.yaml").read_text())
    assert resolved["learning_rate"] == 2e-3
    assert resolved["alphas"] == [0.0, 1.0]
    again = str(tmp_path / "again")
    assert main(["patch", "--config", str(tmp_path / "run" / "recipe.yaml"), "--output_dir", again]) == 0
    for name in ("results.jsonl", "selection.json", "patched/model.safetensors", "theta_1/model.safetensors"):
        assert (tmp_path / "run" / name).read_bytes() == (Path(again) / name).read_bytes()


STRATEGIES = {
    "single": ({}, {"theta_1"}),
    "joint": ({"task_sampling": "uniform"}, {"theta_1"}),
    "sequential": ({}, {"step-1", "step-2"}),
    "parallel": ({"search_budget": 8}, {"thetas"}),
}


STAGES = {
    "sequential": "heads decode train sweep write train sweep write sweep write",
    "parallel": "heads decode train train sweep write",
}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_each_strategy_from_a_recipe_and_again_from_the_resolved_one(recipe, tasks_folder, tmp_path, capsys, strategy):
    keys, left_behind = STRATEGIES[strategy]
    tasks = [str(tasks_folder / "colours.yaml"), write_task_yaml(tasks_folder, "shades", seed=3)]
    several = tasks[:1] if strategy == "single" else tasks
    capsys.readouterr()
    assert recipe(strategy=strategy, patching_tasks=several, **keys) == 0
    shown, progress = capsys.readouterr()
    stages = STAGES.get(strategy, "heads decode train sweep write").split()
    numbers = [f"{number}/{len(stages)} {stage}" for number, stage in enumerate(stages, 1)]
    steps = [line for line in progress.splitlines() if re.match(r"\d+/\d+ ", line)]
    assert [line.partition(":")[0] for line in steps] == numbers
    others = set(progress.splitlines()) - set(steps)  # warnings of the few images of a task, and nothing else
    assert all(line.startswith(("colours: ", "shades: ", "others: ")) for line in others)
    run, alpha = tmp_path / "run", json.loads((tmp_path / "run/selection.json").read_text())["alpha"]
    assert f"{format_alpha(alpha_from_json(alpha))}: {run / 'patched'}" in shown
    assert list(alpha) == ["colours", "shades"] if isinstance(alpha, dict) else strategy in ("single", "joint")
    assert left_behind | {"patched", "recipe.yaml", "results.jsonl", "curve.png"} <= {p.name for p in run.iterdir()}
    again = tmp_path / "again"
    assert main(["patch", "--config", str(run / "recipe.yaml"), "--output_dir", str(again)]) == 0
    for name in ("results.jsonl", "selection.json", "patched/model.safetensors"):
        assert (run / name).read_bytes() == (again / name).read_bytes()


def test_parallel_takes_models_that_are_there(recipe, tmp_path, capsys):
    assert recipe() == 0
    thetas = {"colours": str(tmp_path / "run/theta_1")}
    assert recipe(strategy="parallel", thetas=thetas, output_dir=str(tmp_path / "given")) == 0
    assert recipe("--strategy", "parallel", "--thetas", str(thetas), "--output_dir", str(tmp_path / "flag")) == 0
    assert not (tmp_path / "given/thetas").exists()
    for name in ("results.jsonl", "selection.json", "patched/model.safetensors"):
        assert (tmp_path / "given" / name).read_bytes() == (tmp_path / "flag" / name).read_bytes()


def test_strategies_may_be_no_without_quotes(tmp_path):
    from hf_paint.cli.run_recipe import parse_recipe

    path = tmp_path / "recipe.yaml"
    keys = ["model: m", "patching_tasks: [mnist]", "selection: none", "output_dir: o", "use_cpu: true"]
    path.write_text("\n".join([*keys, "save_strategy: no", "bf16: no"]))
    _, args = parse_recipe(str(path), [])
    assert args.save_strategy == "no"
    assert args.bf16 is False
    assert args.given()["save_strategy"] == "no"


def test_a_task_given_as_a_mapping(recipe, tasks_folder, tmp_path):
    task = yaml.safe_load((tasks_folder / "colours.yaml").read_text())
    assert recipe(patching_tasks=[task]) == 0
    assert main(["patch", "--config", str(tmp_path / "run" / "recipe.yaml")]) == 0


def test_evaluate_prints_a_table(model_folder, tasks_folder, capsys):
    tasks = [str(tasks_folder / "colours.yaml"), str(tasks_folder / "others.yaml")]
    assert main(["evaluate", model_folder, "--tasks", *tasks, "--use_cpu"]) == 0
    output = capsys.readouterr().out
    assert "colours" in output
    assert "mean per class" in output


def test_tasks(capsys):
    assert main(["tasks"]) == 0
    assert "kitti_distance" in capsys.readouterr().out
    assert main(["tasks", "mnist"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["dataset"] == "ylecun/mnist"


BAD_INPUT = {
    "unknown key": ({"learning_rat": 1}, "Unknown recipe key 'learning_rat'. Did you mean 'learning_rate'?"),
    "wrong type": ({"max_steps": "many"}, "`max_steps` must be a whole number, like 100, got 'many'"),
    "unknown choice": ({"selection": "meen"}, "invalid choice: 'meen'"),
    "unknown strategy": ({"strategy": "sequental"}, "invalid choice: 'sequental' (choose from "),
    "thetas no mapping": (
        {"strategy": "parallel", "thetas": "mnist"},
        "`thetas` must map tasks to models, like {mnist",
    ),
    "thetas no YAML": (
        {"strategy": "parallel", "thetas": "{mnist: ["},
        "The value of `thetas` cannot be read: ",
    ),
    "thetas no name": ({"strategy": "parallel", "thetas": {"colours": 1}}, "`thetas` must map tasks to models"),
    "thetas of no task": (
        {"strategy": "parallel", "thetas": {"colors": "a/b"}},
        "`thetas` names 'colors', which is not a patching task. Did you mean 'colours'?",
    ),
    "thetas nowhere": (
        {"strategy": "parallel", "thetas": {"colours": "/nowhere/at/all"}},
        "'/nowhere/at/all' is neither a folder nor a Hub repository id",
    ),
    "thetas of another strategy": (
        {"strategy": "sequential", "thetas": {"colours": "a/b"}},
        "`strategy: sequential` fine-tunes a model in each step. Remove `thetas`.",
    ),
    "orders of another strategy": (
        {"strategy": "joint", "num_orders": 3},
        "`num_orders` needs `strategy: sequential`, got `strategy: joint`.",
    ),
    "no orders": (
        {"strategy": "sequential", "num_orders": 0},
        "`num_orders` must be from 1 to 1 for 1 tasks, got 0",
    ),
    "search budget": ({"strategy": "parallel", "search_budget": 0}, "needs a budget of at least 1 evaluation, got 0"),
    "task sampling": ({"strategy": "joint", "task_sampling": "evenly"}, "task_sampling"),
    "nothing chosen": ({"strategy": "parallel", "selection": "none"}, "so it needs a `selection`"),
    "no selection between steps": ({"strategy": "sequential", "selection": "none"}, "so it needs a `selection`"),
    "unknown task": ({"patching_tasks": ["minst"]}, "Task 'minst' is unknown. Did you mean 'mnist'?"),
    "two tasks": ({"patching_tasks": ["mnist", "svhn"]}, "takes one patching task, got 2"),
    "no model": ({"model": None}, "The recipe needs `model` ("),
    "alpha": ({"alphas": [0, 1.5]}, "alpha must be in [0, 1], got 1.5"),
    "inner key": ({"accelerator_config": {"even_batch": False}}, "unexpected keyword argument 'even_batch'"),
    "unreadable model": (
        {"model": "nowhere/at-all/model"},
        "neither a folder nor a Hub repository id",
    ),
    "tolerance": ({"tolerance": -1}, "`tolerance` must be at least 0 and below 1"),
    "warm-up": ({"max_steps": 4, "warmup_steps": 9}, "warmup_steps (9) must be below max_steps (4)"),
    "no supported": ({"supported_tasks": []}, "looks at what supported tasks lose, but the recipe has none"),
}


@pytest.mark.parametrize(("changes", "message"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_line_and_exit_code_2(recipe, tmp_path, capsys, changes, message):
    assert recipe(**changes) == 2
    assert_one_line(capsys, message)
    assert not (tmp_path / "run").exists()


def error_lines(text):
    """The lines of stderr without progress bars, whose lines end with a carriage return."""
    return [line for line in re.split("[\r\n]", text) if line.startswith("hf-paint: ")]


def assert_one_line(capsys, message):
    lines = error_lines(capsys.readouterr().err)
    assert len(lines) == 1
    assert message in lines[0]
    assert "Traceback" not in lines[0]


BAD_TASKS = {
    "missing column": ({"image_column": "img"}, "'parquet' has no column 'img'; its columns are image, label, track."),
    "class count": ({"class_names": ["a", "b"]}, "lists 2 classes but 'parquet' has 4"),
    "empty split": ({"test": 0}, "is empty"),
    "missing split": ({"splits": {"test": "tests"}}, "lists no files for the split 'tests'"),
}


@pytest.mark.parametrize(("keys", "message"), BAD_TASKS.values(), ids=BAD_TASKS)
def test_bad_task_is_one_line_and_exit_code_2(recipe, tmp_path, capsys, keys, message):
    assert recipe(patching_tasks=[write_task_yaml(tmp_path / "bad", "bad", **keys)]) == 2
    assert_one_line(capsys, message)


def test_corrupt_training_images_are_named_before_workers_start(recipe, tasks_folder, tmp_path, capfd):
    from datasets import Dataset, Image

    path = str(tasks_folder / "colours-train.parquet")
    rows = Dataset.from_parquet(path).cast_column("image", Image(decode=False))
    features = rows.features
    broken = rows.to_list()
    for row in broken[:72]:
        row["image"]["bytes"] = row["image"]["bytes"][:50]
    Dataset.from_list(broken, features=features).to_parquet(path)
    definition = yaml.safe_load((tasks_folder / "colours.yaml").read_text())
    definition["splits"] = {"train": "train", "validation": "test", "test": None}
    (tasks_folder / "colours.yaml").write_text(yaml.safe_dump(definition))
    assert recipe(dataloader_num_workers=1, selection="none") == 2
    lines = error_lines(capfd.readouterr().err)
    assert len(lines) == 1
    start = "hf-paint: 72 images cannot be read. Image 0 of the train split of task 'colours' cannot be read"
    assert lines[0].startswith(start)


def test_towers_of_different_shape(model_folder, tmp_path, capsys, processor, recipe):
    from transformers import CLIPConfig, CLIPModel

    from hf_paint.models.loading import save_clip

    assert recipe() == 0
    config = CLIPConfig.from_pretrained(model_folder)
    config.vision_config.intermediate_size = 32
    shutil.rmtree(tmp_path / "run" / "theta_1")
    save_clip(CLIPModel(config), processor, tmp_path / "run" / "theta_1")
    capsys.readouterr()
    assert recipe() == 2
    assert_one_line(capsys, "differ in shape: vision_model.encoder.layers.0.mlp.fc1.weight ((96, 48) and (32, 48))")


def test_output_folder_of_another_recipe(recipe, capsys):
    assert recipe() == 0
    capsys.readouterr()
    assert recipe(max_steps=5) == 2
    assert_one_line(capsys, "contains a run with a different recipe.yaml (max_steps: 4 there, 5 here)")


@pytest.mark.parametrize("flags", [["--learning_rat", "1"], ["--learning_rat=1"]])
def test_unknown_flag_suggests_the_nearest(recipe, capsys, flags):
    assert recipe(*flags) == 2
    assert_one_line(capsys, "Unknown flag '--learning_rat'. Did you mean '--learning_rate'?")


def test_a_key_of_a_task_is_no_flag(recipe, capsys):
    assert recipe("--bad_rows", "skip") == 2
    assert_one_line(capsys, "`bad_rows` is a key of a task, as in --patching_tasks '{dataset: textures/, bad_rows: ")
    assert recipe(bad_rows="skip") == 2
    assert_one_line(capsys, "Unknown recipe key 'bad_rows'. `bad_rows` is a key of a task")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["evaluate"],
        ["evaluate", "x", "--tasks", "mnist", "--batch_size", "0"],
        ["tasks", "minst"],
        [],
    ],
)
def test_bad_command_line(arguments, capsys):
    assert main(arguments) == 2
    assert_one_line(capsys, "")


def test_a_failed_job_is_exit_code_1(recipe, monkeypatch, capsys):
    from hf_paint import PaintTrainer

    monkeypatch.setattr(PaintTrainer, "train", lambda *args, **keys: 1 / 0)
    assert recipe() == 1
    assert "ZeroDivisionError" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "hf-paint")
def test_help_teaches(command, capsys):
    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert "example:" in output
    assert "hf-paint" in output


def test_patch_help_lists_keys_and_fields_as_they_are(capsys):
    with pytest.raises(SystemExit):
        main(["patch", "--help"])
    output = capsys.readouterr().out
    listed = {line.split()[0] for line in output.splitlines() if line.startswith("  ") and line[2:3].strip()}
    assert {f.name for f in fields(PatchRecipe)} <= listed
    assert {"strategy", "thetas", "search", "search_budget", "num_orders", "task_sampling"} <= listed
    assert len(COMMON_TRAINING_FIELDS) == 34
    args = PaintTrainingArguments(output_dir="x", use_cpu=True)
    plain = {"report_to": "none", "use_cpu": False, "num_train_epochs": None, "output_dir": None}
    plain |= {"dataloader_num_workers": None}
    for name, text in COMMON_TRAINING_FIELDS.items():
        value = plain.get(name, getattr(args, name))
        default = str(getattr(value, "value", value))
        assert name in listed
        assert value is None or f"{default}" in text.replace("(2000,", "(2000"), name


def test_help_all_lists_every_field(capsys):
    assert main(["patch", "--help_all"]) == 0
    output = capsys.readouterr().out
    assert all(f"--{f.name}" in output for f in fields(PaintTrainingArguments) if f.init)


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command) or "hf-paint")
def test_help_is_quick_and_imports_nothing_heavy(command):
    program = (
        "import sys, time\nfrom hf_paint.cli import main\n"
        f"try:\n    main({[*command, '--help']!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'accelerate'} & set(sys.modules)\n"
        "if heavy:\n    sys.exit(f'imported {heavy}')\n"
        "if time.process_time() > 2:\n    sys.exit(f'took {time.process_time()} seconds')"
    )
    done = subprocess.run([sys.executable, "-c", program], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
