"""Characters of all scripts in plots, with fonts that have them and without."""

import warnings

import matplotlib
import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.figure import Figure
from PIL import Image

from hf_paint.evaluation.examples import Example, plot_examples
from hf_paint.results.plots import fonts
from hf_paint.results.plots.fonts import find_fonts, save_figure


DOG, CAT = "\u72ac", "\u732b"


def build_font(path, name, characters):
    """Write a font in which each of these characters is a filled triangle."""
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((450, 900), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    names = [".notdef", *(f"glyph{ord(character)}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(character): f"glyph{ord(character)}" for character in characters})
    font.setupGlyf(dict.fromkeys(names, pen.glyph()))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=900, descent=-100)
    font.setupNameTable({"familyName": name, "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)
    return str(path)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A function that installs a font with some characters, for one test."""
    manager = font_manager.fontManager
    monkeypatch.setattr(manager, "ttflist", list(manager.ttflist))
    find_fonts.cache_clear()
    yield lambda name, characters: manager.addfont(build_font(tmp_path / f"{name}.ttf", name, characters))
    find_fonts.cache_clear()


def draw(text, path):
    """Save a plot with a text in its middle, and return the pixels."""
    figure = Figure(figsize=(1, 1), dpi=100)
    figure.text(0.2, 0.3, text, fontsize=40)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_figure(figure, path)
    return np.asarray(Image.open(path).convert("L"))


def test_the_fonts_with_the_characters_are_found(installed):
    installed("one", DOG)
    installed("two", DOG + CAT)
    assert find_fonts(frozenset(DOG)) == (["one"], [])  # of equals, the first by name
    assert find_fonts(frozenset(DOG + CAT)) == (["two"], [])
    assert find_fonts(frozenset("a" + "\u0439" + "\u03b1")) == ([], [])  # Cyrillic and Greek are in matplotlib's own
    families, missing = find_fonts(frozenset("\U0001d5a0" + CAT + "\uac00"))
    assert set(families) >= {"two"}
    assert missing == ["\uac00"]


def test_a_character_is_drawn_in_a_font_that_has_it(installed, tmp_path, caplog):
    boxes = draw(DOG, tmp_path / "boxes.png")
    assert f"No installed font has 1 of the characters in the plots ({DOG})" in caplog.text
    assert np.array_equal(draw(DOG, tmp_path / "again.png"), boxes)
    assert len(caplog.records) == 1
    caplog.clear()
    find_fonts.cache_clear()
    installed("triangles", DOG + CAT)
    triangle = draw(DOG, tmp_path / "triangle.png")
    assert caplog.text == ""
    assert not np.array_equal(triangle, boxes)
    widths = (triangle < 128).sum(axis=1)
    filled = widths[widths > 0]
    assert filled[-2] > 2 * filled[len(filled) // 3] > 0  # wide below, narrow above


def test_examples_of_classes_in_any_script_bring_no_warning(installed, tmp_path, caplog):
    installed("triangles", DOG + CAT)
    answers = [(0, 0.6), (1, 0.4)]
    pixels = np.zeros((4, 4, 3), dtype=np.uint8)
    values = {"labels": (0,), "written": None, "question": None, "before": answers, "after": answers}
    example = Example(pixels=pixels, candidates=(DOG, CAT), **values)
    own = {"figure.constrained_layout.use": True}  # a setting of the user's, which fits no figure of ours
    with warnings.catch_warnings(), matplotlib.rc_context(own):
        warnings.simplefilter("error")
        plot_examples([example], tmp_path / "plot.png", title=DOG, patched="patched", caption="one")
    assert caplog.text == ""


def test_latin_text_looks_for_no_fonts(tmp_path, monkeypatch):
    monkeypatch.setattr(fonts, "find_fonts", None)
    draw("\u00e9", tmp_path / "plot.png")
