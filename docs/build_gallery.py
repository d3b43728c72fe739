"""What `make docs` shows of the examples, each script with its text and picture, the notebook and the model cards."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


EXAMPLES = Path(__file__).parent / "examples"
CARDS = Path(__file__).parents[1] / "model_cards"
SHARED = "toy.py"
PLACE = "<!-- the examples -->"
MATHJAX = re.compile("<!-- Load mathjax -->.*?<!-- End of mathjax configuration -->", re.S)
ORDER = (
    *("accuracy_along_alpha", "selection_rules", "interpolation_frontier", "flips", "typographic_attack"),
    *("counting_scenes", "two_patches", "merges", "lora_scaling"),
)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the model cards, their plots and their report."""
    for path in sorted(path for path in CARDS.rglob("*") if path.suffix in (".md", ".png", ".html")):
        files.append(File.generated(config, f"model_cards/{path.relative_to(CARDS)}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Put the examples into their page."""
    return markdown.replace(PLACE, "\n".join(sections())) if page.file.src_uri == "examples/index.md" else markdown


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Leave out the program for formulas that every notebook loads from the network; ours has none."""
    return MATHJAX.sub("", html) if page.file.src_uri.endswith(".ipynb") else html


def sections() -> Iterator[str]:
    """Yield the examples as Markdown."""
    for name in ORDER:
        source = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
        title, _, text = (ast.get_docstring(ast.parse(source)) or "").partition("\n\n")
        yield f"## {title.rstrip('.')}\n\n{text}\n\n![{title}]({name}.png)\n"
        yield _folded(f"{name}.py", source.partition('"""\n\n')[2])
    yield "## What they share\n"
    yield _folded(SHARED, (EXAMPLES / SHARED).read_text(encoding="utf-8"))


def _folded(name: str, code: str) -> str:
    """Return code that is shown on a click."""
    lines = "".join(f"    {line}" if line.strip() else line for line in code.splitlines(keepends=True))
    return f'??? example "{name}"\n\n    ```python\n{lines}    ```\n'
