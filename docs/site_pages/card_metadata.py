"""The page of the metadata of model cards."""

from collections.abc import Mapping

from hf_paint.hub import card_metadata
from hf_paint.results import curve_metadata
from site_pages.markdown import sections, table, text
from site_pages.source import constants


INTRODUCTION = """\
# Metadata of cards

A model card starts with a block of YAML. The Hub reads most of it to find and link models. The key `hf_paint` is for
this library, which reads it in [`load_curve`][hf_paint.load_curve], in `hf-paint variants` and before a push. No key
changes its meaning, so cards of earlier versions stay readable."""
OWN = """\
## Keys of `hf_paint`"""
CURVE = """\
## The curve

`curve` has two keys. `alphas` lists the alphas in one line, and `tasks` has one entry for each task and split, with
these keys:"""


def page() -> str:
    """Return the page."""
    return sections(
        INTRODUCTION,
        text(constants(card_metadata)["FIELDS"]),
        _table(card_metadata.FIELDS),
        OWN,
        _table(card_metadata.OWN_FIELDS),
        CURVE,
        _table(curve_metadata.FIELDS),
        text(constants(curve_metadata)["FIELDS"].partition(". ")[2]),
    )


def _table(fields: Mapping[str, str]) -> str:
    return table(["key", "what it says"], ([f"`{key}`", text(words)] for key, words in fields.items()))
