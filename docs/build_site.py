"""What `make docs` adds to MkDocs: pages made from the code, those that stand outside docs/, and links between all."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from site_pages import PAGES

from hf_paint import __version__


ROOT = Path(__file__).parents[1]
PAGES_OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CODE_OF_CONDUCT.md": "project/conduct.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
    "recipes/README.md": "project/recipes.md",
}
"""The pages that GitHub shows where they stand, by their path in the site."""
LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Show the version at the foot of every page."""
    config.copyright = f"hf_paint {__version__}, {config.copyright}"
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages outside docs/, and those that are made from the code."""
    for path, uri in PAGES_OUTSIDE.items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for uri, page in PAGES.items():
        files.append(File.generated(config, uri, content=page()))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links that hold in the checkout into links that hold in the site."""
    if page.file.src_uri in PAGES:
        return markdown
    places = {file.abs_src_path: file.src_uri for file in files if file.abs_src_path}
    here = Path(page.file.abs_src_path or "").parent

    def in_site(link: re.Match[str]) -> str:
        uri = places.get(os.path.normpath(here / link[2]))
        target = os.path.relpath(uri, Path(page.file.src_uri).parent) if uri else link[2]
        return f"{link[1]}{target}{link[3] or ''}{link[4]}"

    return LINK.sub(in_site, markdown)
