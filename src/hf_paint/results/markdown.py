"""Markdown in which text of others is escaped, whatever it holds: names of tasks and classes, ids, licences, links.

A card's own sentences are `Markdown`. Text of any other type is escaped when it is put into them, or into the template
of a card. Only code spans stay as they are, for what stands in them is shown as it is written.
"""

import re
from typing import Self
from urllib.parse import quote

from markupsafe import Markup


_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_SPECIAL = re.compile(r"[\\`*\[\]<|$&]|~(?=.*~)|(?<![^\W_])_|_(?![^\W_])")
_START = re.compile(r"( ?\d{0,9})(>|(?:[-=#]+|[+.)])(?=\s|$))")
_ADDRESS = re.compile(r"https?://[\w.~:/?#@!&'*+,;=%()-]+", re.ASCII)


class Markdown(Markup):
    r"""Markdown that can be trusted; what is put into it is escaped, unless it is `Markdown`, too.

    Example:
        >>> print(Markdown("**{}** has {}").format("<b>", Markdown("[a link](x)")))
        **\<b>** has [a link](x)
    """

    __slots__ = ()

    @classmethod
    def escape(cls, s: object, /) -> Self:
        r"""Return text on one line that is shown as it is written, except for code spans.

        Example:
            >>> print(Markdown.escape("# <script> [x](y) snake_case, by `name`"))
            \# \<script> \[x\](y) snake_case, by `name`
        """
        if isinstance(s, cls):
            return s
        text = re.sub(r"\s+", " ", str(s))
        parts, end = [], 0
        for code in _CODE.finditer(text):
            parts += [_SPECIAL.sub(r"\\\g<0>", text[end : code.start()]), code[0]]
            end = code.end()
        escaped = "".join([*parts, _SPECIAL.sub(r"\\\g<0>", text[end:])])
        start = _START.match(escaped)  # a quotation, a heading, an item of a list or a line
        return cls(escaped if start is None else f"{start[1]}\\{escaped[start.end(1) :]}")


def code_span(text: str) -> Markdown:
    """Return text as a code span, whatever backticks it holds.

    Example:
        >>> print(code_span("a photo of a {}."), code_span("a`b"))
        `a photo of a {}.` `` a`b ``
    """
    text = " ".join(text.split())
    if "`" not in text:
        return Markdown(f"`{text}`")
    marks = _marks(text, least=2)
    return Markdown(f"{marks} {text} {marks}")


def fenced(text: str, language: str) -> Markdown:
    """Return lines of code as a block that ends only where they end.

    Example:
        >>> print(fenced("model: clip", "yaml"))
        ```yaml
        model: clip
        ```
    """
    marks = _marks(text, least=3)
    return Markdown(f"{marks}{language}\n{text}\n{marks}")


def link(text: str, address: str) -> Markdown:
    """Return a link whose text and address are those of others."""
    return Markdown("[{}]({})").format(text, Markdown(quote(address, safe="/:@#?&=%~.-_")))


def hub_link(repo_id: str, kind: str = "") -> Markdown:
    """Return a link to a repository on the Hub; `kind` is `datasets/` for a data set.

    Example:
        >>> print(hub_link("openai/clip-vit-base-patch32"))
        [openai/clip-vit-base-patch32](https://huggingface.co/openai/clip-vit-base-patch32)
    """
    return link(repo_id, f"https://huggingface.co/{kind}{repo_id}")


def address_or_text(text: str) -> Markdown:
    """Return the address of a page as it is, which Markdown makes a link, and any other text escaped."""
    return Markdown(text) if _ADDRESS.fullmatch(text) else Markdown.escape(text)


def front_matter(metadata: str) -> Markdown:
    """Return the YAML of a card's metadata, which has its own rules of quoting, as it is."""
    return Markdown(metadata)


def _marks(text: str, *, least: int) -> str:
    """Return more backticks than stand in a row in a text."""
    return "`" * max(least, 1 + max(map(len, re.findall("`+", text)), default=0))
