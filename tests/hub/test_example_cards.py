"""The cards in `model_cards/` are those that the records beside them give, and say what the records say."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard


CARDS = Path(__file__).parents[2] / "model_cards"
KINDS = sorted(path.parent.name for path in CARDS.glob("*/README.md"))
MOST_BYTES = 3 * 2**20


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make_cards", CARDS / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_is_up_to_date(make, kind):
    """If a card has changed on purpose: `python model_cards/make.py --render`."""
    assert make.card(CARDS / kind) == (CARDS / kind / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", KINDS)
def test_a_card_has_the_counts_of_the_records(kind):
    records = [json.loads(line) for line in (CARDS / kind / "results.jsonl").read_text().splitlines()]
    selection = json.loads((CARDS / kind / "selection.json").read_text())
    chosen = [r for r in records if r["split"] == "test" and r["alpha"] == selection["alpha"]]
    card = (CARDS / kind / "README.md").read_text(encoding="utf-8")
    [bold] = [line for line in card.splitlines() if line.startswith("| **")]
    assert {f"{100 * r['correct'] / r['total']:.2f}" for r in chosen} <= set(re.findall(r"\d+\.\d+", bold))
    names = {result.dataset_name for result in ModelCard(card).data.eval_results}
    assert names == {record["task"] for record in chosen}


def test_every_kind_is_listed_with_its_report(make):
    listed = re.findall(r"\]\((\w+)/README.md\)", (CARDS / "README.md").read_text(encoding="utf-8"))
    assert sorted(listed) == KINDS == sorted(make.runs())
    assert (CARDS / "report.html").exists()
    assert all("](../report.html)" in (CARDS / kind / "README.md").read_text(encoding="utf-8") for kind in KINDS)
    strategies = {yaml.safe_load((CARDS / kind / "recipe.yaml").read_text())["strategy"] for kind in KINDS}
    assert strategies == {"single", "joint", "sequential", "parallel"}


def test_the_folder_is_small_and_names_no_path_of_a_machine():
    files = [path for path in CARDS.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert sum(path.stat().st_size for path in files) < MOST_BYTES
    for path in (path for path in files if path.suffix in (".md", ".json", ".jsonl", ".yaml", ".html")):
        assert not re.search(r"/(home|tmp|root|work)/", path.read_text(encoding="utf-8")), path
