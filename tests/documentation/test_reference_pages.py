"""The reference is made from the code, and lists all of it: names, keys, commands, files and metadata."""

import dataclasses
import re
import sys
from importlib import import_module
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard

import hf_paint
from hf_paint import PaintTrainingArguments
from hf_paint.cli.main import COMMANDS, main
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.cli.recipe_keys import RecipeParser
from hf_paint.hub import card_metadata
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.results import curve_metadata, run_files
from hf_paint.results.run_folder import RunFolder
from hf_paint.tasks.definitions import list_tasks
from hf_paint.tasks.groups import TASK_GROUPS
from hf_paint.tasks.keys import ORDER


ROOT = Path(__file__).parents[2]
pytest.importorskip("griffe", reason="needs the packages that build the documentation")
sys.path.insert(0, str(ROOT / "docs"))
PAGES = import_module("site_pages").PAGES


def rows(page):
    """The tables of a page: name in the first column -> the cells of the last of its rows."""
    found = re.findall(r"^\| \[?`([^`]+)`.*?\| (.*) \|$", page, re.M)
    return {name: cells.split(" | ") for name, cells in found}


@pytest.fixture(scope="module")
def pages():
    return {uri.removeprefix("reference/").removesuffix(".md"): page() for uri, page in PAGES.items()}


def test_every_public_name_has_a_docstring_and_a_place(pages):
    text = "\n".join(pages.values())
    places = re.findall(r"^::: hf_paint\.(\w+)$", text, re.M)
    assert sorted(places) == hf_paint.__all__  # each once
    listed = rows(pages["api/index"])
    for name in hf_paint.__all__:
        assert (getattr(hf_paint, name).__doc__ or "").strip(), name
        assert listed[name][0], name


def test_every_page_has_a_title_and_a_place_in_the_navigation(pages):
    navigation = (ROOT / "mkdocs.yml").read_text()
    for name, page in pages.items():
        assert page.startswith("# "), name
        assert f"- reference/{name}.md\n" in navigation, name


def test_every_key_of_a_recipe_is_explained(pages):
    parser = RecipeParser(PatchRecipe, PaintTrainingArguments)
    keys = {name.removeprefix("--") for action in parser._actions for name in action.option_strings[:1]}
    keys -= {"-h", *(f"no_{key}" for key in keys)}
    found = rows(pages["recipe_keys"])
    assert found.keys() == keys
    assert not [key for key, cells in found.items() if not cells[0] or not cells[-1]]


def test_defaults_of_a_recipe_are_those_of_the_code(pages):
    found = rows(pages["recipe_keys"])
    assert found["model"][1] == found["patching_tasks"][1] == "required"
    for field in dataclasses.fields(PatchRecipe):
        shown = found[field.name][1].strip("`")
        if shown != "required":
            value = field.default_factory() if field.default is dataclasses.MISSING else field.default
            assert yaml.safe_load(shown or "null") == (None if value == [] else value), field.name
    args = PaintTrainingArguments(output_dir="run", use_cpu=True)
    for key in ("learning_rate", "weight_decay", "max_steps", "lora_r", "seed", "warmup_steps", "max_grad_norm"):
        assert float(found[key][1].strip("`").split(",")[0]) == getattr(args, key)


def test_every_key_of_a_task_is_explained(pages):
    found = rows(pages["task_keys"])
    assert {*ORDER, "extends", "class_subset"} <= found.keys()
    assert not [key for key, cells in found.items() if not cells[0] or not cells[-1]]


def test_every_built_in_task_and_group_is_listed(pages):
    assert rows(pages["built_in_tasks"]).keys() == {*list_tasks(), *TASK_GROUPS}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_argument_of_a_command_is_explained(command, pages, capsys):
    [section] = re.findall(rf"^## hf-paint {command}\n(.*?)(?=^## |\Z)", pages["commands"], re.M | re.S)
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = capsys.readouterr().out.partition("\nexample:")[0]
    flags = set(re.findall(r"^  (--\w+)", shown, re.M))
    found = rows(section)
    assert {name for name in found if name.startswith("--")} == flags
    assert all(cells[-1] for cells in found.values())


def test_every_file_of_a_run_is_explained(finished_run, pages):
    known = [*run_files.FILES, *(f"{name}/" for name in run_files.FOLDERS)]
    assert set(known) <= rows(pages["run_folder"]).keys()
    assert {*run_files.SEALED, *run_files.PARTS_OF_A_RUN} <= run_files.FILES.keys() | run_files.FOLDERS.keys()
    folders = {name.partition("/")[0] for name in run_files.FILES if "/" in name}
    explained = (*run_files.FILES, *run_files.FOLDERS, *folders, "*.svg", ".lock", "hf_paint_manifest.json")
    assert [path.name for path in finished_run.iterdir() if not run_files.is_one_of(explained, path.name)] == []


def test_every_key_of_the_metadata_of_a_card_is_explained(finished_run, pages):
    source = dataclasses.replace(
        CardSource.from_run(RunFolder(finished_run)), base_model_id="o/clip", base_license="mit"
    )
    data = ModelCard(render_model_card(source)).data.to_dict()
    own, curve = data["hf_paint"], data["hf_paint"]["curve"]
    assert card_metadata.FIELDS.keys() - data.keys() == {"datasets"}  # those of the run are not on the Hub
    assert data.keys() <= card_metadata.FIELDS.keys()
    assert own.keys() == card_metadata.OWN_FIELDS.keys() - {"applied"}
    assert {key for task in curve["tasks"] for key in task} <= curve_metadata.FIELDS.keys()
    fields = {*card_metadata.FIELDS, *card_metadata.OWN_FIELDS, *curve_metadata.FIELDS}
    assert fields == rows(pages["card_metadata"]).keys()


@pytest.mark.shared
def test_the_published_curve_is_quoted_as_it_is(shared):
    import csv

    with (shared / "oracles" / "vit_b32_mnist_cifar10_curve.csv").open() as file:
        known = {round(float(row["alpha"]), 2): row for row in csv.DictReader(file)}
    text = (ROOT / "docs" / "explanation" / "line.md").read_text()
    lines = {line.split(" | ")[0].strip("| "): line.strip("| ").split(" | ")[1:] for line in text.splitlines()}
    for name, column in (("MNIST", "mnist_top1"), ("CIFAR-10", "cifar10_top1")):
        assert lines[name] == [f"{100 * float(known[float(alpha)][column]):.2f}" for alpha in lines["alpha"]]
