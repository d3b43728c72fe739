"""The metadata at the top of a model card (README.md), which anyone may have written. Does not import torch."""

import re
from pathlib import Path

from hf_paint.documents.reading import Json, parse_yaml, read_bytes
from hf_paint.errors import InputError


_BLOCK = re.compile(rb"\s*---[ \t]*[\r\n]+(.*?)[\r\n]---[ \t]*(?:[\r\n]|\Z)", re.DOTALL)


def read_card_metadata(path: Path) -> Json:
    r"""Return the YAML block of a card as a mapping; empty if it has none.

    Raises:
        InputError: If the block is not valid YAML, is no mapping, or is beyond the limits of `hf_paint.documents`.

    Example:
        >>> _ = (tmp_path / "README.md").write_text("---\nlicense: mit\n---\n# A model")
        >>> read_card_metadata(tmp_path / "README.md")
        {'license': 'mit'}
    """
    what = f"The metadata of the card {path}"
    block = _BLOCK.match(read_bytes(path, what).removeprefix(b"\xef\xbb\xbf"))
    metadata = None if block is None else parse_yaml(block[1], what)
    if metadata is not None and not isinstance(metadata, dict):
        raise InputError(f"{what} must be a mapping of keys to values.")
    return metadata or {}


def facts_of(metadata: Json) -> Json:
    """Return what hf_paint wrote of a model in the metadata of its card; empty if the card is not ours."""
    facts = metadata.get("hf_paint")
    return facts if isinstance(facts, dict) else {}


def base_of(metadata: Json) -> str | None:
    """Return the base model that the metadata of a card names, the first one of several, or None."""
    named = metadata.get("base_model")
    first = named[0] if isinstance(named, list) and named else named
    return first if isinstance(first, str) else None
