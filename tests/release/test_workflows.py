"""The files for GitHub have the right form, and its workflows do what they are meant to and no more."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml


ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
WORKFLOWS = sorted(GITHUB.glob("workflows/*.yml"))
PROGRAMS = Path(sys.executable).parent


def run(program, *arguments):
    if not (PROGRAMS / program).exists():
        pytest.skip(f"needs {program}, which the extra `dev` installs")
    done = subprocess.run([PROGRAMS / program, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "files"),
    [
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]),
        ("github-issue-config", [GITHUB / "ISSUE_TEMPLATE" / "config.yml"]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_file_has_the_form_that_its_reader_expects(schema, files):
    run("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *files)


def test_workflows_are_secure():
    run("zizmor", "--offline", "--quiet", ".")


def jobs():
    return {
        (path.stem, name): job for path in WORKFLOWS for name, job in yaml.safe_load(path.read_text())["jobs"].items()
    }


def test_only_publishing_may_write_and_only_on_a_tag_that_passed():
    permissions = {place: job["permissions"] for place, job in jobs().items()}
    publish = ("build-and-publish", "publish")
    assert permissions.pop(publish) == {"id-token": "write"}
    assert all(given == {"contents": "read"} for given in permissions.values())
    assert jobs()[publish]["if"] == "startsWith(github.ref, 'refs/tags/')"
    assert set(jobs()[publish]["needs"]) == {name for workflow, name in jobs() if workflow == publish[0]} - {"publish"}


def test_what_is_run_are_targets_of_the_makefile():
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M))
    texts = [(ROOT / ".ci" / "run").read_text(), *(path.read_text() for path in WORKFLOWS)]
    named = {name for text in texts for line in re.findall(r"\bmake ([a-z ]+)$", text, re.M) for name in line.split()}
    assert {"test", "lint", "types", "docs", "build", "smoke"} <= named <= targets


def test_the_pythons_that_are_tested_are_those_that_are_promised():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    promised = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert jobs()["tests", "test"]["strategy"]["matrix"]["python"] == promised
    assert project["requires-python"] == f">={promised[0]}"
