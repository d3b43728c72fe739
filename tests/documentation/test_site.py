"""The site needs no network to be read, and its search works from a disk."""

import re
import shutil
import sys
from importlib import import_module
from pathlib import Path

import pytest

from browser import chromium


ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "docs"))
check_site = import_module("check_site")
build = pytest.importorskip("mkdocs.commands.build", reason="needs the packages that build the documentation")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A small site with the settings of mkdocs.yml, but for the pages that are made from the code."""
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    docs = folder / "docs"
    shutil.copytree(ROOT / "docs" / "assets", docs / "assets")
    (docs / "index.md").write_text("# Start\n\nNothing here.\n\n```python\nprint(1)\n```\n")
    (docs / "other.md").write_text("# Other page\n\nA text about **quetzals**.\n")
    places = {"docs_dir": str(docs), "site_dir": str(folder / "built"), "nav": ["index.md", "other.md"]}
    build.build(load_config(str(ROOT / "mkdocs.yml"), hooks=[], plugins=["search", "offline"], **places))
    return folder / "built"


def test_pages_load_nothing_from_the_network(site):
    assert [*check_site.problems(site)] == []
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:|//)", style.read_text())


def test_what_is_wrong_with_a_site_is_found(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(
        """<link rel="canonical" href="https://o.org/a"><script src="https://o.org/x.js"></script>
        <img src="picture.png"><a href="sub/b.html#there">b</a><a href="sub/b.html#not%20there">b</a>
        <a href="https://o.org">o</a><a href="mailto:me@o.org">me</a><a href="#top">a</a><h1 id="top">A</h1>"""
    )
    (tmp_path / "sub" / "b.html").write_text('<h2 id="there">B</h2><a href="../c.html">c</a><a href="../a.html#top">')
    assert [*check_site.problems(tmp_path)] == [
        "a.html loads https://o.org/x.js",
        "a.html has a broken link: picture.png",
        "a.html has a broken link: sub/b.html#not%20there",
        "sub/b.html has a broken link: ../c.html",
    ]


def test_the_search_finds_a_page_from_a_disk(site):
    with chromium() as browser:
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input[name=query]").press_sequentially("quetzals")  # the search listens to keys
        page.locator(".md-search-result__link").first.wait_for(state="attached", timeout=60_000)
        assert "other.html" in page.locator(".md-search-result__link").first.get_attribute("href")
        assert [url for url in asked if not url.startswith("file:")] == []
