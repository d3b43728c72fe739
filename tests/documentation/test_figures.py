"""One command makes every figure of the documentation."""

import importlib.util
import re
import sys
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


@pytest.fixture(scope="module")
def figures():
    """The names that `docs/figures/make.py` takes."""
    spec = importlib.util.spec_from_file_location("make_figures", ROOT / "docs/figures/make.py")
    module = importlib.util.module_from_spec(spec)
    before = [*sys.path]
    spec.loader.exec_module(module)
    sys.path[:] = before
    return module.FIGURES


def test_every_figure_can_be_made_again_and_is_shown_on_a_page(figures):
    kept = {path.stem for path in (ROOT / "docs/figures").glob("*.png")}
    shown = {name for page in PAGES for name in re.findall(r"figures/(\w+)\.png", page.read_text(encoding="utf-8"))}
    assert kept == shown
    assert kept <= set(figures)
