"""The README and the pages of docs/ are correct: the README runs, commands exist, links and numbers hold.

`make docs` also runs the code of all pages (tests/documentation).
"""

import ast
import csv
import re
import shlex
import shutil
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

from drawn_tasks import draw_textures, write_task
from hf_paint import PaintTrainingArguments
from hf_paint.cli.main import main
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.merging.registry import METHODS
from pages import PAGES, ROOT, anchors, blocks, name_of, prose, read


GENERATED = {ROOT / "docs" / page for page in re.findall(r"reference/\S+\.md", (ROOT / "mkdocs.yml").read_text())}
GENERATED -= set(PAGES)
"""The pages that only the site has: `make docs` makes them from the code, and checks the links to them."""


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_resolve(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(read(page)))
    for link in (link for link in links if not re.match(r"https?:", link)):
        target, _, anchor = link.partition("#")
        file = (page.parent / target).resolve() if target else page
        assert file.exists() or file in GENERATED, f"{link} is not there"
        assert not anchor or file in GENERATED or anchor in anchors(file), f"{link}: no heading"


def test_every_page_is_reached_from_the_readme():
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached | GENERATED:
            continue
        reached.add(page)
        links = re.findall(r"\]\(([^)\s#]+\.md)", prose(read(page)))
        waiting += [(page.parent / link).resolve() for link in links if not re.match(r"https?:", link)]
    assert set(PAGES) <= reached


def test_the_description_of_the_wheel_links_to_nothing_that_it_lacks():
    description = tomllib.loads(read("pyproject.toml"))["project"]["readme"]["text"]
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", description) if not link.startswith("https://")]


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_imports_work_and_the_commands_and_flags_exist(page, capsys):
    for block in blocks(page, "python"):
        imports = [node for node in ast.parse(block.code).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec("\n".join(map(ast.unparse, imports)), {})
    keys = {f"--{f.name}" for f in (*fields(PatchRecipe), *fields(PaintTrainingArguments)) if f.init}
    commands = [words for block in blocks(page, "bash") for words in block.commands]
    for _, name, *words in (words for words in commands if words[0] == "hf-paint"):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        known = set(re.findall(r"--\w+", capsys.readouterr().out)) | (keys if name == "patch" else set())
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, name


@pytest.fixture
def tiny(model_folder, tmp_path, monkeypatch):
    """Return a function that makes the code of the README tiny: the model, the steps and the tasks that it names."""
    monkeypatch.chdir(tmp_path)
    Path("cifar10.yaml").write_text(yaml.safe_dump(write_task(Path("data"), "cifar10", train=32, test=8).to_dict()))
    draw_textures(Path("textures"))
    shutil.copy(next(Path("textures").rglob("*.png")), "picture.png")
    short = {"max_steps": 2, "warmup_steps": 1, "per_device_train_batch_size": 8, "use_cpu": True}
    in_python = ", ".join(f"{key}={value}" for key, value in short.items())
    flags = "--num_examples 0 --alphas 0 1 " + " ".join(f"--{key} {value}" for key, value in short.items())

    def shrink(block):
        text = block.code.replace("openai/clip-vit-base-patch32", model_folder)
        text = text.replace("clip-vit-base-patch32", "tiny-clip")
        text = text.replace('keep=["cifar10"]', f'keep=["cifar10.yaml"], alphas=[0, 1], {in_python}')
        text = text.replace("--supported_tasks cifar10", f"--supported_tasks cifar10.yaml {flags}")
        return text.replace("--repo_id me/", "--base_model_id o/clip --yes --repo_id tester/")

    return shrink


def test_the_readme_runs_on_a_tiny_model(tiny, hub):
    """From the folder to the Hub, as printed but for the tiny model and task, the short training, and the name."""
    [four_lines] = map(tiny, blocks("README.md", "python"))
    here = {}
    exec(four_lines, here)
    assert here["result"].alpha in here["result"].curve.alphas
    lines = tiny(blocks("README.md", "bash")[1]).splitlines()
    assert [main(shlex.split(line, comments=True)[1:]) for line in lines] == [0] * 5
    assert {"model.safetensors", "tasks.json", "README.md"} <= set(HfApi().list_repo_files("tester/clip-textures"))


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    commands = [words for page in PAGES for block in blocks(page, "bash") for words in block.commands]
    named = {words[1] for words in commands if words[0] == "make"}
    assert named
    assert named <= targets


def test_published_numbers_are_those_of_the_curve(shared):
    with (shared / "oracles" / "vit_b32_mnist_cifar10_curve.csv").open() as file:
        rows = {round(float(row["alpha"]), 2): row for row in csv.DictReader(file)}
    text = read("recipes/README.md")
    for name, column in (("MNIST", "mnist_top1"), ("CIFAR-10", "cifar10_top1")):
        [line] = [line for line in text.splitlines() if line.startswith(f"| {name} | ")]
        assert line.split(" | ")[1:-1] == [f"{100 * float(rows[a / 10][column]):.2f}" for a in range(10)]


def test_the_table_of_methods_names_all_of_them_with_their_options():
    rows = dict(re.findall(r"^\| `(\w+)` \| .* \| (.*)\|$", read("docs/reference/methods.md"), re.M))
    del rows["method"]
    assert list(rows) == list(METHODS)
    for name, options in rows.items():
        method = METHODS[name](factors=[1.0]) if name == "layerwise" else METHODS[name]()
        said = yaml.safe_load(f"{{{options.replace('`', '')}}}")
        defaults = asdict(method) | ({"factors": None} if name == "layerwise" else {})
        assert said == defaults, name
