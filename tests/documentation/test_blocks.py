"""Every block of code on every page runs as it is printed, from the top of the page to its end.

Python runs in one namespace per page, and `hf-paint` commands in this process, both in a small world (see
`small_world.py`). YAML is read as a recipe or as a task. A new page needs no line here.
"""

import json
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from hf_paint import PaintTrainingArguments, get_task
from hf_paint.cli.recipe import PatchRecipe
from hf_paint.cli.run_recipe import parse_recipe
from pages import PAGES, ROOT, blocks, name_of
from small_world import BASE, SmallWorld


PROGRAMS = {
    "make": "long; test_readme.py checks that the target exists",
    "python": "a script that runs for minutes; it must exist",
    ".venv/bin/python": "the same",
    ".venv/bin/pytest": "runs tests",
    "accelerate": "starts processes, as tests/distributed does; the recipe must parse",
    "sbatch": "needs Slurm; the recipe must parse",
    "pip": "installs packages",
    "tensorboard": "serves a page until it is stopped",
    "wandb": "asks for a key",
}
"""Programs that are not run, and why."""
LAUNCHED = ("recipes/patch.py", "recipes/slurm/patch.sbatch")
"""Scripts that take `--config` and the flags of `hf-paint patch`."""
NOT_RUN = {
    ("docs/how_to/demo.md", "hf-paint demo"): "serves a page until it is stopped",
    ("docs/how_to/gating.md", "name: model"): "a workflow of GitHub, checked by tests/cli/test_pages.py",
    ("docs/coming_from/mergekit.md", "merge_method: ties"): "a file of mergekit",
    ("docs/coming_from/fusion_bench.md", "_target_: fusion_bench"): "a file of FusionBench",
    ("recipes/README.md", "hf-paint patch --config recipes/scenes/"): "reads pictures that a script draws in minutes",
}
"""Commands and blocks that are not run, by their page and how they begin, and why."""
OUTPUT = {"", "text", "mermaid", "bibtex"}
"""Languages of blocks that are no code."""
VERDICTS = {"check": {0, 3, 4}}
"""Exit codes of commands that judge a model; a tiny one need not pass."""
MISSING = {"model": BASE, "patching_tasks": "textures/", "supported_tasks": "cifar10"}
"""What a recipe needs beside the keys that a page shows."""
RECIPE_KEYS = {f.name for f in (*fields(PatchRecipe), *fields(PaintTrainingArguments)) if f.init}


@pytest.fixture(scope="module")
def world(model_folder, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        small = SmallWorld(tmp_path_factory.mktemp("world"), model_folder, patch)
        yield small
        small.close()


def is_listed(page, text):
    return any(name_of(page) == name and text.startswith(start) for name, start in NOT_RUN)


def run_python(block, world, names):
    exec(compile(block.code, str(block), "exec"), names)


def run_diff(block, world, names):
    """Run a script as it was, and then as the page changes it."""
    for other, space in (("+", {}), ("-", names)):
        lines = [line[1:] for line in block.code.splitlines() if not line.startswith(other)]
        exec(compile("\n".join(lines), str(block), "exec"), space)


def run_bash(block, world, names):
    for words in block.commands:
        while "=" in words[0]:  # a variable of the environment
            words = words[1:]
        line = " ".join(words)
        if is_listed(block.page, line):
            continue
        if words[0] != "hf-paint":
            assert words[0] in PROGRAMS, f"{line}: list the program in PROGRAMS, with the reason"
            check_files(words)
            continue
        code = world.run(words)
        assert code in VERDICTS.get(words[1], {0}), f"{line}: exit code {code}"


def check_files(words):
    """Check that the scripts of a command exist, and that `hf-paint` takes its recipe."""
    files = [word for word in words if Path(word).suffix in (".py", ".sbatch", ".yaml") and "=" not in word]
    assert all((ROOT / file).exists() for file in files), words
    for script in {*LAUNCHED} & {*words}:
        _, config, *flags = words[words.index(script) + 1 :]
        parse_recipe(config, [*flags, "--use_cpu", "true"])


def run_yaml(block, world, names):
    if is_listed(block.page, block.code):
        return
    keys = yaml.safe_load(block.code)
    if keys.keys() <= RECIPE_KEYS:
        Path("shown.yaml").write_text(block.code)
        parse_recipe("shown.yaml", [word for key in MISSING.keys() - keys for word in (f"--{key}", MISSING[key])])
    else:
        get_task({"dataset": "textures/"} | keys)


def run_json(block, world, names):
    json.loads(block.code)


RUN = {"python": run_python, "diff": run_diff, "bash": run_bash, "yaml": run_yaml, "json": run_json}


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, *RUN)], ids=name_of)
def test_the_code_of_a_page_runs(page, world):
    world.begin("\n".join(block.code for block in blocks(page, *RUN)))
    names = {"__name__": "__main__"}
    for block in blocks(page, *RUN):
        RUN[block.language](block, world, names)


def test_every_block_is_of_a_language_that_is_run_or_of_output():
    assert {block.language for page in PAGES for block in blocks(page)} <= {*RUN, *OUTPUT}


def test_what_is_not_run_is_still_there():
    commands = [(name_of(b.page), words) for page in PAGES for b in blocks(page, "bash") for words in b.commands]
    texts = [(page, " ".join(words)) for page, words in commands]
    texts += [(name_of(block.page), block.code) for page in PAGES for block in blocks(page, "yaml")]
    for name, start in NOT_RUN:
        assert any(page == name and text.startswith(start) for page, text in texts), (name, start)
    programs = {next(word for word in words if "=" not in word) for _, words in commands}
    assert programs >= {*PROGRAMS}


def test_a_block_that_fails_is_found(world, tmp_path):
    world.begin("")
    page = ROOT / "README.md"
    for code, language in (("1 / 0", "python"), ("hf-paint tasks nothing/", "bash"), ("toleranec: 0.1", "yaml")):
        block = type(blocks(page)[0])(page, 1, language, code)
        with pytest.raises(Exception, match=r"division|exit code 2|toleranec"):
            RUN[language](block, world, {})
