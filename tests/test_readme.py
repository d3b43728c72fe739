"""The README is correct: its Python runs, its commands parse, its task YAML is valid."""

import re
import shlex
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

import hf_paint
from drawn_tasks import write_task
from hf_paint import PushOptions, Task, get_task, push_variants
from hf_paint.cli.run_recipe import parse_recipe
from hf_paint.merging.registry import METHODS


ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def test_python_runs_on_a_tiny_model(model_folder, patch_folder, hub, tmp_path, monkeypatch):
    """Tiny models and tasks replace those of the README; every other line runs as printed."""
    from drawn_tasks import draw_rows

    monkeypatch.chdir(tmp_path)
    names = ("red", "green", "blue", "grey")
    tiny = {
        name: write_task(tmp_path / "data", name, names=names, seed=i)
        for i, name in enumerate(("mnist", "cifar10", "stl10", "svhn"))
    }
    monkeypatch.setattr(hf_paint, "get_task", tiny.__getitem__, raising=False)
    short = "Arguments(use_cpu=True, max_steps=2, warmup_steps=1, "
    use, patch, apply, parallel, pull = (
        block.replace("openai/clip-vit-base-patch32", model_folder).replace("Arguments(", short)
        for block in blocks(README, "python")
    )
    here = {}
    exec(patch, here)
    assert here["result"].alpha in here["result"].curve.alphas
    exec(parallel, {})
    draw_rows(1, 0)["image"][0].save("digit.png")
    exec(use, here)
    push_variants(here["result"], "tester/clip-mnist", alphas=[0.3], options=PushOptions(base_model_id="o/clip"))
    exec(pull.replace("me/", "tester/"), here)
    assert here["model"].num_parameters() == here["result"].model.num_parameters()
    for name in ("mnist", "cars"):
        shutil.copytree(patch_folder, f"runs/{name}/patch")
    exec(apply, here)
    assert here["model"].num_parameters() == here["result"].model.num_parameters()


@pytest.mark.parametrize("page", ["README.md", "recipes/README.md"])
def test_recipes_of_the_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = "\n".join(blocks((ROOT / page).read_text(encoding="utf-8"), "bash")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if "--config recipes" in line and "recipes/scenes" not in line]
    commands = [shlex.split(line, comments=True) for line in lines]  # those of scenes need the images: test_recipes
    assert commands
    for command in commands:
        start = command.index("--config")
        recipe, _ = parse_recipe(command[start + 1], [*command[start + 2 :], "--use_cpu", "true"])
        assert recipe.model.startswith("openai/")
        assert all(get_task(task).class_names for task in recipe.patching_tasks + recipe.transfer_tasks)
        files = [word for word in command if word.endswith((".yaml", ".py"))]
        assert all((ROOT / file).exists() for file in files)


def test_task_yaml_is_a_task():
    [text] = blocks(README, "yaml")
    task = Task.from_dict(yaml.safe_load(text))
    assert task.class_names == ("bolt", "nut", "washer")


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    assert set(re.findall(r"make (\w+)", " ".join(blocks(README, "bash")))) <= targets


def test_published_numbers_are_those_of_the_curve(shared):
    import csv

    with (shared / "oracles" / "vit_b32_mnist_cifar10_curve.csv").open() as file:
        rows = {round(float(row["alpha"]), 2): row for row in csv.DictReader(file)}
    text = (ROOT / "recipes" / "README.md").read_text(encoding="utf-8")
    for name, column in (("MNIST", "mnist_top1"), ("CIFAR-10", "cifar10_top1")):
        [line] = [line for line in text.splitlines() if line.startswith(f"| {name} | ")]
        assert line.split(" | ")[1:-1] == [f"{100 * float(rows[a / 10][column]):.2f}" for a in range(10)]


def test_the_table_of_methods_names_all_of_them_with_their_options():
    rows = dict(
        re.findall(r"^\| `(\w+)` \| .* \| (.*)\|$", README.split("### Merging methods")[1].split("\n## ")[0], re.M)
    )
    del rows["method"]
    assert list(rows) == list(METHODS)
    for name, options in rows.items():
        method = METHODS[name](factors=[1.0]) if name == "layerwise" else METHODS[name]()
        said = yaml.safe_load(f"{{{options.replace('`', '')}}}")
        defaults = asdict(method) | ({"factors": None} if name == "layerwise" else {})
        assert said == defaults, name
