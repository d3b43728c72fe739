"""The site needs no network to be read, and its search works from a disk."""

import re
import shutil
from pathlib import Path

import pytest

from browser import chromium


ROOT = Path(__file__).parents[2]
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
    for page in site.rglob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe|link)\b[^>]*?\b(?:src|href)=[\"']?([^\"' >]+)", page.read_text())
        assert loaded
        assert [address for address in loaded if address.startswith(("http", "//"))] == []
    for style in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:|//)", style.read_text())


def test_the_search_finds_a_page_from_a_disk(site):
    with chromium() as browser:
        page, asked = browser.new_page(), []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        page.locator("input[name=query]").fill("quetzals")
        page.locator(".md-search-result__link").first.wait_for(state="attached", timeout=20_000)
        assert "other.html" in page.locator(".md-search-result__link").first.get_attribute("href")
        assert [url for url in asked if not url.startswith("file:")] == []
