"""A catalogue of mistakes that users make: each is answered in one line that says what was given and what to do."""

import re
import shlex
import shutil
import time
from importlib.resources import files
from pathlib import Path

import pytest
import yaml
from datasets import Dataset, Image

from drawn_tasks import write_task, write_task_yaml
from folders import draw_folder
from hf_paint.cli.main import main


TOY = files("hf_paint") / "toy_clip"
PATCH = "patch --model {model} --patching_tasks {colours} --supported_tasks {others} --output_dir {new} --use_cpu "
PATCH += "--max_steps 2 --warmup_steps 1 --per_device_train_batch_size 8 --alphas 0 1 "

KEYS = {
    "unknown command": ("pach", "'pach' 'patch'"),
    "no command": ("", "COMMAND"),
    "unknown flag": ("patch --foo 1", "--foo"),
    "unknown key": ("patch --config {typo}", "'learning_rat' 'learning_rate'"),
    "nothing given": ("patch", "`model` `patching_tasks`"),
    "no tasks": ("patch --model me/clip", "`patching_tasks` --patching_tasks"),
    "nothing to keep": ("patch --model me/clip --patching_tasks mnist", "`selection: --supported_tasks none"),
    "recipe without --config": ("patch {typo}", "{typo} --config"),
    "value without a flag": ("patch textures/", "'textures/' --patching_tasks"),
    "recipe that is a folder": ("patch --config {root}", "{root} recipe"),
    "recipe that does not exist": ("patch --config {root}/none.yaml", "none.yaml"),
    "recipe that is no YAML": ("patch --config {broken}", "broken.yaml line"),
    "recipe that is a list": ("patch --config {listed}", "listed.yaml keys"),
    "key that occurs twice": ("patch --config {twice}", "twice.yaml 'alphas' twice"),
    "number of processes": ("patch --num_processes 2", "--num_processes"),
    "comma in a list": ("patch --alphas 0,5", "`alphas` '0,5' spaces"),
    "word for a whole number": ("patch --max_steps many", "`max_steps` 'many' number"),
    "learning rate with a letter": ("patch --learning_rate 1e-5x", "`learning_rate` '1e-5x' 1e-5"),
    "neither true nor false": ("patch --bf16 perhaps", "`bf16` 'perhaps' true"),
    "flag without a value": ("patch --model", "--model expected"),
    "unknown rule": (PATCH + "--selection meen", "'meen' 'mean'"),
    "unknown strategy": (PATCH + "--strategy serial", "'serial' 'sequential'"),
    "unknown dtype": (PATCH + "--save_dtype int8", "'int8' 'bfloat16'"),
    "unknown schedule": (PATCH + "--lr_scheduler_type cosin", "cosin cosine"),
    "unknown optimizer": (PATCH + "--optim adamm", "'adamm' 'adamw_torch'"),
    "two tasks for single": (PATCH + "--patching_tasks {colours} {others}", "`strategy: single` 2 `joint`"),
    "unknown task": (PATCH + "--patching_tasks minst", "'minst' 'mnist'"),
    "task file that does not exist": (PATCH + "--patching_tasks {root}/signs.yaml", "signs.yaml"),
    "folder that does not exist": (PATCH + "--patching_tasks {root}/textures/", "textures"),
    "model that does not exist": (PATCH + "--model {root}/clip", "{root}/clip folder"),
    "home folder of nobody": (PATCH + "--patching_tasks ~nobody-at-all/signs", "'~nobody-at-all/signs' folder"),
    "model in the home folder of nobody": (PATCH + "--model ~nobody-at-all/clip", "'~nobody-at-all/clip' folder"),
    "recipe in the home folder of nobody": ("patch --config ~nobody-at-all/run.yaml", "~nobody-at-all/run.yaml"),
    "baseline that does not exist": (PATCH + "--baseline {root}/base.json", "`baseline` base.json"),
    "unknown key in a task file": (PATCH + "--patching_tasks {misspelt}", "'label_colum' 'label_column'"),
    "task that extends itself": (PATCH + "--patching_tasks {circular}", "circular.yaml extends"),
    "template without a place": (PATCH + "--patching_tasks {no_place}", "no_place template {{}}"),
}
VALUES = {
    "alpha above 1": (PATCH + "--alphas 0 1.5", "alpha 1.5 [0, 1]"),
    "tolerance in points": (PATCH + "--selection supported_within --tolerance 5", "`tolerance` 5 0.01"),
    "warm-up longer than training": (PATCH + "--warmup_steps 9", "warmup_steps 9 max_steps"),
    "batches of no images": (PATCH + "--per_device_train_batch_size 0", "per_device_train_batch_size 0"),
    "no steps": (PATCH + "--max_steps 0", "max_steps 0"),
    "negative learning rate": (PATCH + "--learning_rate -1", "learning_rate -1"),
    "thetas that are no mapping": (PATCH + "--strategy parallel --thetas signs", "`thetas` signs map"),
    "unknown method": (PATCH + "--method tie", "tie ties"),
    "orders of one strategy": (PATCH + "--num_orders 2", "`num_orders` sequential"),
    "adapter key without an adapter": (PATCH + "--lora_r 4", "`lora_r` `use_peft: true`"),
    "half precision on a CPU": (PATCH + "--fp16", "`fp16: true` GPU `bf16: true`"),
    "tracker that is not installed": (PATCH + "--report_to comet_ml", "comet_ml pip install"),
    "unknown tracker": (PATCH + "--report_to wandbb", "'wandbb' wandb"),
    "push to no repository": (PATCH + "--push_to_hub", "`push_to_hub` `hub_model_id`"),
    "task in two roles": (PATCH + "--supported_tasks {colours}", "'colours' twice"),
    "two tasks of one name": (PATCH + "--supported_tasks {namesake}", "'colours' twice"),
    "batch size that is no number": ("evaluate {model} --tasks {colours} --batch_size 0", "--batch_size 0 positive"),
    "unknown split": ("evaluate {model} --tasks {colours} --split train", "--split 'train' 'test'"),
    "evaluate without tasks": ("evaluate {model}", "--tasks"),
    "unknown task to show": ("tasks minst", "'minst' 'mnist'"),
    "rank of zero": ("extract-lora {model} {model} --rank 0 --output_dir {new}", "Ranks [0]"),
}
DATA = {
    "column that is not there": (PATCH + "--patching_tasks {no_column}", "'img' image"),
    "split that is not there": (PATCH + "--patching_tasks {no_split}", "'tests' train"),
    "label that matches no class": (PATCH + "--patching_tasks {no_class}", "no_class 'grey' class_names"),
    "one class": (PATCH + "--patching_tasks {one_class}", "one_class class"),
    "data set that is not there, offline": (PATCH + "--patching_tasks me/pets", "me/pets"),
    "number of classes": (PATCH + "--patching_tasks {few_classes}", "2 4"),
    "empty split": (PATCH + "--patching_tasks {empty}", "empty test"),
    "file that is not there": (PATCH + "--patching_tasks {no_file}", "none.parquet"),
    "file of another format": (PATCH + "--patching_tasks {no_parquet}", "fake.parquet"),
    "empty folder": (PATCH + "--patching_tasks {empty_folder}", "hollow"),
    "test rows in train": (PATCH + "--patching_tasks {same_rows}", "same_rows test train"),
    "no train split": (PATCH + "--patching_tasks {no_train}", "no_train train"),
    "no validation to choose on": (PATCH + "--supported_tasks {no_validation}", "validation supported"),
}
MODELS = {
    "model of another kind": (PATCH + "--model {bert}", "bert clip"),
    "model without weights": (PATCH + "--model {no_weights}", "no_weights"),
    "weights in another format": (PATCH + "--model {only_bin}", "only_bin safetensors"),
    "model without a config": (PATCH + "--model {no_config}", "no_config config.json"),
    "model without a tokenizer": (PATCH + "--model {no_tokenizer}", "no_tokenizer tokenizer"),
    "weights cut short": (PATCH + "--model {cut}", "cut weights"),
    "typo in a model id, offline": (PATCH + "--model openai/clip-vit-bas-patch32", "openai/clip-vit-bas-patch32"),
    "output that is a file": (PATCH + "--output_dir {typo}", "{typo} output_dir"),
    "output below a file": (PATCH + "--output_dir {typo}/run", "{typo} output_dir"),
    "output that is another run": (PATCH + "--output_dir {run} --seed 3", "{run} different output_dir"),
    "interpolate two models": ("interpolate {model} {toy} --alphas 0.5 --output_dir {new}", "theta_1 base"),
    "interpolate nothing": ("interpolate {model} {model} --output_dir {new}", "alphas"),
    "compare no run": ("compare {root}/none {root}/nothing", "{root}/none"),
    "push no run": ("push {root}/none --repo_id me/clip", "{root}/none"),
    "push an unfinished run": ("push {run} --repo_id me/clip", "{run}"),
    "select in no run": ("select {root}/none --alpha 0.5", "{root}/none"),
    "select in an unfinished run": ("select {run} --alpha 0.5", "{run}"),
    "evaluate no model": ("evaluate {root}/none --tasks {colours} --use_cpu", "{root}/none"),
    "variants of no repository": ("variants {root}/none", "{root}/none"),
    "variants of a folder": ("variants {model}", "{model} folder owner/name"),
    "convert no model": ("convert {root}/none {new}", "{root}/none"),
}


@pytest.fixture(scope="module")
def place(tmp_path_factory, model_folder):
    """A folder full of mistakes: name -> path."""
    root = tmp_path_factory.mktemp("mistakes")
    named = {"root": root, "model": model_folder, "new": root / "new"}
    small = {"train": 24, "test": 12}
    for name, seed in (("colours", 0), ("others", 7)):
        named[name] = write_task_yaml(root, name, seed=seed, **small)
    bad = {
        "misspelt": {"label_colum": "label"},
        "no_place": {"templates": ["a photo"]},
        "no_column": {"image_column": "img"},
        "no_split": {"splits": {"test": "tests"}},
        "no_class": {key: ["red", "green", "blue", "yellow"] for key in ("class_names", "label_names")},
        "few_classes": {"class_names": ["red", "green"]},
        "no_file": {"data_files": {"train": str(root / "none.parquet"), "test": str(root / "none.parquet")}},
        "no_parquet": {"data_files": {"train": str(root / "fake.parquet"), "test": str(root / "fake.parquet")}},
        "same_rows": {"splits": {"train": "train", "validation": "auto", "test": "train"}},
        "no_train": {"splits": {"train": None, "validation": "train", "test": "test"}},
        "no_validation": {"splits": {"train": None, "validation": None, "test": "test"}},
        "empty_folder": {"dataset": "imagefolder", "data_dir": str(root / "hollow"), "data_files": None},
    }
    definition = yaml.safe_load((root / "colours.yaml").read_text())
    for name, keys in bad.items():
        changed = {key: value for key, value in (definition | {"name": name} | keys).items() if value is not None}
        named[name] = _write(root / f"{name}.yaml", yaml.safe_dump(changed))
    named["circular"] = _write(root / "circular.yaml", "extends: circular.yaml\nname: circular\n")
    named["namesake"] = _write(root / "namesake.yaml", yaml.safe_dump(definition))
    named["one_class"] = write_task_yaml(root, "one_class", names=["red"], **small)
    named["empty"] = write_task_yaml(root, "empty", train=24, test=0)
    named["corrupt"] = _corrupt(root, write_task(root, "corrupt", **small))
    named["typo"] = _write(root / "typo.yaml", "learning_rat: 1")
    named["broken"] = _write(root / "broken.yaml", "alphas: [0, 1\nmodel: x")
    named["listed"] = _write(root / "listed.yaml", "[model, alphas]")
    named["twice"] = _write(root / "twice.yaml", "alphas: [0]\nalphas: [1]")
    _write(root / "fake.parquet", "no parquet")
    draw_folder(root / "hollow", {"readme.txt": "nothing here"})
    return {name: str(path) for name, path in (named | _models(root, model_folder)).items()}


def _write(path, text):
    path.write_text(text)
    return path


def _corrupt(root, task):
    """Cut the bytes of test image 3."""
    rows = Dataset.from_parquet(task.data_files["test"]).cast_column("image", Image(decode=False))
    broken = rows.to_list()
    broken[3]["image"]["bytes"] = broken[3]["image"]["bytes"][:60]
    Dataset.from_list(broken, features=rows.features).to_parquet(task.data_files["test"])
    return _write(root / "corrupt.yaml", yaml.safe_dump(task.to_dict()))


def _models(root, model_folder):
    """Damaged copies of a model, and a folder in which a run was interrupted."""
    missing = {
        "no_weights": ["model.safetensors"],
        "no_config": ["config.json"],
        "no_tokenizer": ["tokenizer.json", "tokenizer_config.json"],
        "only_bin": ["model.safetensors"],
        "bert": [],
        "cut": [],
    }
    for name, absent in missing.items():
        shutil.copytree(model_folder, root / name)
        for file in absent:
            (root / name / file).unlink()
    _write(root / "bert" / "config.json", '{"model_type": "bert", "architectures": ["BertModel"]}')
    _write(root / "only_bin" / "pytorch_model.bin", "pickled")
    weights = (root / "cut" / "model.safetensors").read_bytes()
    (root / "cut" / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    (root / "run" / "theta_1").mkdir(parents=True)
    _write(root / "run" / "recipe.yaml", "model: me/clip\nseed: 1\n")
    return {name: root / name for name in missing} | {"run": root / "run", "toy": str(TOY)}


@pytest.fixture
def no_network(monkeypatch):
    """Fails a test that opens a connection."""

    def connect(*arguments):
        raise AssertionError(f"opened a connection to {arguments[1:]}")

    monkeypatch.setattr("socket.socket.connect", connect)


def assert_one_line(command, words, place, capsys, *, stages=()):
    """Run a command and check that it ends in one line with these words, within 10 CPU seconds, and leaves nothing.

    Before it are only the lines of the stages that had begun.
    """
    shutil.rmtree(place["new"], ignore_errors=True)
    start = time.process_time()
    assert main(shlex.split(command.format(**place))) == 2
    assert time.process_time() - start < 10
    shown = capsys.readouterr()
    lines = [line for line in re.split("[\r\n]", shown.err) if line.strip() and not re.search(r"\d+%\||\d+it", line)]
    assert lines[:-1] == list(stages), shown.err
    assert lines[-1].startswith("hf-paint: ")
    assert "Traceback" not in shown.err
    for word in words.format(**place).split():
        assert word in lines[-1]
    assert not Path(place["new"]).exists()


@pytest.mark.parametrize(("command", "words"), KEYS.values(), ids=KEYS)
def test_a_mistake_in_the_keys(command, words, place, capsys, no_network):
    assert_one_line(command, words, place, capsys)


@pytest.mark.parametrize(("command", "words"), VALUES.values(), ids=VALUES)
def test_a_mistake_in_a_value(command, words, place, capsys, no_network):
    assert_one_line(command, words, place, capsys)


@pytest.mark.parametrize(("command", "words"), DATA.values(), ids=DATA)
def test_a_mistake_in_the_data(command, words, place, capsys, no_network):
    assert_one_line(command, words, place, capsys)


def test_a_corrupt_picture_is_found_while_pictures_are_decoded(place, capsys, no_network):
    stages = ("1/5 heads: 2 tasks", "2/5 decode: 2 tasks")
    assert_one_line(PATCH + "--patching_tasks {corrupt}", "corrupt Image 3", place, capsys, stages=stages)


@pytest.mark.parametrize(("command", "words"), MODELS.values(), ids=MODELS)
def test_a_mistake_in_a_model_or_a_folder(command, words, place, capsys, no_network):
    assert_one_line(command, words, place, capsys)


def test_a_typo_in_a_model_id_is_one_request(hub, place, capsys):
    for name in ("openai/clip-vit-bas-patch32", "me/clip"):
        assert_one_line(PATCH + f"--model {name}", f"{name} private hf auth login", place, capsys)
        assert len(hub.log) == 1
        hub.log.clear()


def test_push_needs_a_token(hub, place, capsys, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    push = "--push_to_hub --hub_model_id tester/clip --base_model_id me/clip"
    assert_one_line(PATCH + push, "tester/clip hf auth login", place, capsys)
    assert not hub.calls("create_repo")


def test_an_interrupted_run_ends_as_shells_report_it(place, capsys, monkeypatch):
    def interrupt(recipe):
        raise KeyboardInterrupt

    monkeypatch.setattr("hf_paint.patching.single.patch_along_line", interrupt)
    assert main(shlex.split(PATCH.format(**place))) == 130
    assert "hf-paint: interrupted; run the same command again to resume\n" in capsys.readouterr().err


def test_a_crash_keeps_its_traceback(place, capsys, monkeypatch):
    monkeypatch.setattr("hf_paint.patching.single.patch_along_line", lambda recipe: 1 / 0)
    assert main(shlex.split(PATCH.format(**place))) == 1
    shown = capsys.readouterr().err
    assert "Traceback" in shown
    assert "ZeroDivisionError" in shown
    assert "hf-paint: " not in shown
