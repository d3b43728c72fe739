"""The page on gating: its workflow is valid, and what it lists is what there is."""

import re
import shlex
import sys
from pathlib import Path

import yaml

from hf_paint.cli.main import _parser
from hf_paint.results.checks import EXIT_CODES, Check, TaskCheck
from hf_paint.results.records import Result


DOCS = Path(__file__).parents[2] / "docs" / "how_to"


def blocks(page, language):
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)


def commands(text):
    """Return the arguments of each `hf-paint` command in a shell script."""
    lines = text.replace("\\\n", " ").splitlines()
    return [shlex.split(line)[1:] for line in lines if line.strip().startswith("hf-paint ")]


def check(command):
    parsed, rest = _parser(command).parse_known_args(command)
    assert parsed.command == command[0]
    assert rest == []


def test_the_workflow_is_valid_and_its_command_parses():
    [workflow] = map(yaml.safe_load, blocks("gating.md", "yaml"))
    assert workflow[True]["pull_request"]["paths"] == ["model.txt"]  # YAML 1.1 reads the key `on` as true
    [job] = workflow["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    [install, gate] = [step["run"] for step in job["steps"] if "run" in step]
    assert install == "pip install hf-paint"
    [command] = commands(gate)
    assert command[1] == "$(head -n 1 model.txt)"
    check(command)
    version = next(step["with"]["python-version"] for step in job["steps"] if "python" in step.get("uses", ""))
    assert tuple(map(int, version.split("."))) <= sys.version_info[:2]


def test_every_key_and_exit_code_is_listed():
    text = (DOCS / "gating.md").read_text(encoding="utf-8")
    result = Result(alpha=0.0, task="t", role="supported", split="test", correct=5, total=10)
    task = TaskCheck(before=result, after=result, won=1, lost=1, rule="keep", bound=-0.01)
    report = Check(model="m", against="b", split="test", tasks=[task]).to_dict()
    for key in [*report, *task.to_dict()]:
        assert f"`{key}`" in text, key
    rows = dict(re.findall(r"^\| (\d) \| (.*) \|$", text, re.MULTILINE))
    assert set(map(int, rows)) == {*EXIT_CODES.values(), 1, 2}
