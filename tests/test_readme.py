"""The README and the pages of docs/ are correct: Python runs, commands parse, task YAML is valid, links resolve."""

import ast
import re
import shlex
import shutil
import tomllib
from dataclasses import asdict, fields
from pathlib import Path

import pytest
import yaml
from huggingface_hub import HfApi

import hf_paint
from drawn_tasks import draw_rows, write_task
from hf_paint import PaintTrainingArguments, PushOptions, Task, get_task, push_variants
from hf_paint.cli.main import main
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.cli.run_recipe import parse_recipe
from hf_paint.merging.registry import METHODS


ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "recipes" / "README.md"])
GENERATED = {ROOT / "docs" / page for page in re.findall(r"reference/\S+\.md", (ROOT / "mkdocs.yml").read_text())}
GENERATED -= set(PAGES)
"""The pages that only the site has: `make docs` makes them from the code, and checks the links to them."""
RUN_HERE = {"README.md": 2, "patching.md": 3, "strategies.md": 1, "adapters.md": 1, "publishing.md": 1}
"""The number of Python blocks of each page that are run here; a page with a test of its own is not listed."""


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def prose(text):
    """The text without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"```.*?```", "", text, flags=re.S))


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page):
    links = re.findall(r"\]\(([^)\s]+)\)", prose(page.read_text(encoding="utf-8")))
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
        links = re.findall(r"\]\(([^)\s#]+\.md)", prose(page.read_text(encoding="utf-8")))
        waiting += [(page.parent / link).resolve() for link in links if not re.match(r"https?:", link)]
    assert set(PAGES) <= reached


def test_the_description_of_the_wheel_links_to_nothing_that_it_lacks():
    description = tomllib.loads(read("pyproject.toml"))["project"]["readme"]["text"]
    assert not [link for link in re.findall(r"\]\(([^)]+)\)", description) if not link.startswith("https://")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_is_python_and_the_commands_exist(page, capsys):
    text = page.read_text(encoding="utf-8")
    for block in blocks(text, "python"):
        imports = [node for node in ast.parse(block).body if isinstance(node, (ast.Import, ast.ImportFrom))]
        exec("\n".join(map(ast.unparse, imports)), {})
    keys = {f"--{f.name}" for f in (*fields(PatchRecipe), *fields(PaintTrainingArguments)) if f.init}
    lines = "\n".join(blocks(text, "bash")).replace("\\\n", " ").splitlines()
    for _, name, *words in (shlex.split(x, comments=True) for x in lines if x.startswith("hf-paint ")):
        with pytest.raises(SystemExit, match="0"):
            main([name, "--help"])
        known = set(re.findall(r"--\w+", capsys.readouterr().out)) | (keys if name == "patch" else set())
        assert {word.split("=")[0] for word in words if word.startswith("--")} <= known, name


@pytest.fixture
def tiny(model_folder, tmp_path, monkeypatch):
    """Return a function that makes a page's text tiny: the model, the steps and the tasks that it names."""
    monkeypatch.chdir(tmp_path)
    names = ("mnist", "cifar10", "stl10", "svhn")
    tasks = {name: write_task(Path("data"), name, train=32, test=8, seed=seed) for seed, name in enumerate(names)}
    monkeypatch.setattr(hf_paint, "get_task", tasks.__getitem__, raising=False)
    for name, task in tasks.items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(task.to_dict()))
    rows = draw_rows(40, 0, names=("banded", "dotted", "woven"))
    for number, (image, label) in enumerate(zip(rows["image"], rows["label"], strict=True)):
        folder = Path("textures", ("banded", "dotted", "woven")[label])
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{number}.png")
    shutil.copy(next(Path("textures").rglob("*.png")), "picture.png")
    short = {"max_steps": 2, "warmup_steps": 1, "per_device_train_batch_size": 8, "use_cpu": True}
    in_python = ", ".join(f"{key}={value}" for key, value in short.items())
    flags = "--num_examples 0 --alphas 0 1 " + " ".join(f"--{key} {value}" for key, value in short.items())

    def shrink(text):
        text = text.replace("openai/clip-vit-base-patch32", model_folder).replace("clip-vit-base-patch32", "tiny-clip")
        text = text.replace('"mnist", keep', '"mnist.yaml", keep').replace('keep=["cifar10"]', 'keep=["cifar10.yaml"]')
        text = text.replace('keep=["cifar10.yaml"]', f'keep=["cifar10.yaml"], alphas=[0, 1], {in_python}')
        text = text.replace("--supported_tasks cifar10", f"--supported_tasks cifar10.yaml {flags}")
        text = text.replace("--repo_id me/", "--base_model_id o/clip --yes --repo_id me/")
        return text.replace("Arguments(", f"Arguments({in_python}, ").replace("me/", "tester/")

    return shrink


def python(page, tiny):
    found = [tiny(block) for block in blocks(read(page), "python")]
    assert len(found) == RUN_HERE[Path(page).name]
    return found


def test_the_readme_runs_on_a_tiny_model(tiny, hub):
    """From the folder to the Hub, as printed but for the tiny model and task, the short training, and the name."""
    use, four_lines = python("README.md", tiny)
    here = {}
    exec(four_lines, here)
    assert here["result"].alpha in here["result"].curve.alphas
    lines = tiny(blocks(read("README.md"), "bash")[1]).splitlines()
    assert [main(shlex.split(line, comments=True)[1:]) for line in lines] == [0] * 5
    exec(use, here)
    assert {"model.safetensors", "tasks.json", "README.md"} <= set(HfApi().list_repo_files("tester/clip-textures"))


def test_the_pages_run_on_a_tiny_model(tiny, patch_folder, hub):
    here = {}
    single, shortest, details = python("docs/how_to/patching.md", tiny)
    exec(single, here)
    assert here["result"].alpha in here["result"].curve.alphas
    push_variants(
        here["result"],
        "tester/clip-mnist",
        alphas=[0.3],
        options=PushOptions(base_model_id="o/clip", allow_unpatched=True),
    )
    exec(details, here)
    exec(shortest, here)
    for block in python("docs/how_to/publishing.md", tiny) + python("docs/how_to/strategies.md", tiny):
        exec(block, here)
    assert here["model"].num_parameters() > 0
    for name in ("mnist", "cars"):
        shutil.copytree(patch_folder, f"runs/{name}/patch")
    for block in python("docs/how_to/adapters.md", tiny):
        exec(block, here)


@pytest.mark.parametrize("page", ["docs/how_to/patching.md", "docs/how_to/strategies.md", "recipes/README.md"])
def test_recipes_of_the_commands_parse(page, monkeypatch):
    monkeypatch.chdir(ROOT)
    text = "\n".join(blocks(read(page), "bash")).replace("\\\n", " ")
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
    [text] = blocks(read("docs/how_to/tasks.md"), "yaml")
    task = Task.from_dict(yaml.safe_load(text))
    assert task.class_names == ("bolt", "nut", "washer")


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z]+):", read("Makefile"), re.M))
    commands = "\n".join(block for page in PAGES for block in blocks(read(page), "bash"))
    named = set(re.findall(r"^make (\w+)", commands, re.M))
    assert named
    assert named <= targets


def test_published_numbers_are_those_of_the_curve(shared):
    import csv

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
