"""The pages of the documentation, and the code in them."""

import re
import shlex
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import dedent


ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "recipes" / "README.md"])
FENCE = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```", re.S | re.M)


@dataclass(frozen=True)
class Block:
    """A block of code; `language` is empty for what is printed."""

    page: Path
    line: int
    language: str
    code: str

    def __str__(self):
        return f"{name_of(self.page)}, line {self.line}"

    @cached_property
    def commands(self):
        """The words of each command in a shell script."""
        lines = self.code.replace("\\\n", " ").splitlines()
        return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


def name_of(page):
    return page.relative_to(ROOT).as_posix()


def read(page):
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(page, *languages):
    """Return the blocks of a page in these languages, by default in all."""
    text = read(page)
    found = [Block(ROOT / page, text.count("\n", 0, m.start()) + 1, m[2], dedent(m[3])) for m in FENCE.finditer(text)]
    return [block for block in found if not languages or block.language in languages]


def prose(text):
    """The text without its code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", read(page)), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
