"""The version stands in one place; the changelog promises what there is, and every fixed name is promised."""

import json
import re
from pathlib import Path

import yaml

import hf_paint
from hf_paint.cli.main import COMMANDS
from hf_paint.hub.card import VERSIONED, environment


ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def promised():
    """What each row of the table of stable names holds in backticks."""
    rows = re.findall(r"^\| ([\w ,]+) \| (.*) \|$", CHANGELOG, re.M)
    return {name: re.findall(r"`([^`]+)`", text) for name, text in rows}


def test_the_newest_version_of_the_changelog_and_of_the_citation_is_that_of_the_package():
    versions = re.findall(r"^## \[(.+?)\] - (?:\d{4}-\d\d-\d\d|Unreleased)$", CHANGELOG, re.M)
    assert versions[0] == hf_paint.__version__
    assert len(versions) == CHANGELOG.count("\n## ")
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == hf_paint.__version__


def test_cards_name_the_version_of_the_code_that_runs(monkeypatch):
    monkeypatch.setattr("hf_paint.hub.card.__version__", "7.8.9")
    environment.cache_clear()
    assert environment()["hf-paint"] == "7.8.9"
    environment.cache_clear()
    assert list(environment()) == ["hf-paint", *VERSIONED, "python"]


def test_what_is_promised_is_there():
    stable = promised()
    assert len(stable["Python"]) > 20
    assert set(stable["Python"]) - {"hf_paint"} <= set(hf_paint.__all__)
    assert set(stable["commands"]) - {"hf-paint"} <= set(COMMANDS)
    assert len(stable["commands"]) > 10


def test_a_run_has_the_promised_files_and_keys(finished_run):
    files = set(promised()["a run folder"]) - {"variants/"}  # on request
    assert len(files) > 8
    assert [file for file in files if not (finished_run / file).exists()] == []
    keys = set(promised()["records"]) - {"results.jsonl"}
    assert len(keys) > 10
    for line in (finished_run / "results.jsonl").read_text().splitlines():
        assert keys <= json.loads(line).keys()
