"""Typographic attacks: the word, its position, and the attack success rate."""

import string
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
from PIL import Image, ImageDraw

from hf_paint import InputError
from hf_paint.tasks.lettering import COLOURS, break_lines, draw_lettering, load_font
from hf_paint.tasks.typographic import TypographicAttack


FONT = f"{matplotlib.get_data_path()}/fonts/ttf/DejaVuSerif.ttf"
GREY = (127, 127, 127)  # none of the colours


def random_names(count, longest=40):
    generator = np.random.default_rng(0)
    letters = list(string.ascii_letters + string.digits + "     -'&éÅgjpqyÊß")
    names = ["".join(generator.choice(letters, generator.integers(1, longest + 1))).strip() for _ in range(count)]
    return [name or "x" for name in names]


def inked(image):
    return (np.asarray(image).reshape(*image.size[::-1], -1) != 127).any(axis=2)


def test_all_that_is_written_is_inside_the_image():
    """On a canvas with a border, the border stays clean and the inside equals the canvas without one."""
    fonts = TypographicAttack().font_files
    for seed, name in enumerate(random_names(500)):
        lettering = draw_lettering(name, 224, fonts, np.random.default_rng(seed))
        small, large = Image.new("L", (224, 224), 127), Image.new("L", (304, 304), 127)
        lettering.write_on(small)
        replace(lettering, position=(lettering.position[0] + 40, lettering.position[1] + 40)).write_on(large)
        ink = inked(large)
        assert ink.sum() == ink[40:264, 40:264].sum() > 0
        assert np.array_equal(ink[40:264, 40:264], inked(small))
        assert lettering.text.split() == name.split()
        assert 0 < lettering.size < 40


@pytest.mark.parametrize("name", ["m", "Strasse", "four words of it", "W" * 40])
@pytest.mark.parametrize("width", [1, 2])
def test_the_letters_are_those_of_pillow_on_a_large_canvas(name, width):
    """The mask of the letters is tight, and cuts none of them."""
    lettering = draw_lettering(name, 448, [FONT], np.random.default_rng(3))
    lettering = replace(lettering, position=(150, 150), colour="white", outline="black", outline_width=width)
    image, canvas = Image.new("RGB", (1000, 600), GREY), Image.new("L", (1000, 600))
    lettering.write_on(image)
    font = load_font(FONT, lettering.size)
    ImageDraw.Draw(canvas).multiline_text((100, 100), lettering.text, 255, font, align="center")
    full = np.asarray(canvas) == 255
    white = (np.asarray(image) == 255).all(axis=2)
    assert full.sum() == white.sum()
    assert canvas.point(lambda value: 255 * (value == 255)).getbbox() is not None
    drawn, expected = np.argwhere(white), np.argwhere(full)
    assert np.array_equal(drawn - drawn.min(0), expected - expected.min(0))
    around = np.argwhere(np.asarray(canvas) > 0)
    ink = np.argwhere(inked(image))
    assert np.array_equal(ink.max(0) - ink.min(0), around.max(0) - around.min(0) + 2 * width)


def test_the_true_class_is_never_written_and_every_other_one_is():
    attack = TypographicAttack()
    labels = np.arange(4000) % 5
    words = attack.written(labels, list("abcde"), "test")
    assert (words != labels).all()
    assert words.min() == 0
    assert words.max() == 4
    counts = np.array([[((labels == i) & (words == j)).sum() for j in range(5)] for i in range(5)])
    off_diagonal = counts[~np.eye(5, dtype=bool)]
    assert off_diagonal.min() > 140  # 200 each on average, 12 the standard deviation
    assert off_diagonal.max() < 260
    assert set(attack.written(np.array([0, 1] * 10), list("ab"), "validation")) == {0, 1}
    with pytest.raises(InputError, match="two classes"):
        attack.written(np.zeros(1, dtype=np.int64), list("a"), "test")


def test_the_name_of_the_true_class_is_not_written_as_that_of_another():
    """Two classes of ImageNet are called missile."""
    names, labels = ["missile", "dog", "missile"], np.arange(60) % 3
    words = TypographicAttack().written(labels, names, "test")
    assert set(words[labels != 1]) == {1}
    assert set(words[labels == 1]) == {0, 2}
    with pytest.raises(InputError, match="two classes"):
        TypographicAttack().written(labels, ["missile"] * 3, "test")


def test_the_word_that_is_said_is_the_word_that_is_written(monkeypatch):
    said = []

    def draw(word, *args, **options):
        said.append(word)
        return draw_lettering(word, *args, **options)

    monkeypatch.setattr("hf_paint.tasks.typographic.draw_lettering", draw)
    names, labels = ["cat", "polar bear", "dog"], np.arange(30) % 3
    attack = TypographicAttack(seed=5)
    for row, label in enumerate(labels):
        attack(Image.new("RGB", (50, 40)), int(label), names, split="validation", row=row)
    assert said == [names[index] for index in attack.written(labels, names, "validation")]


def test_the_looks_vary_over_fonts_sizes_colours_and_places():
    fonts = TypographicAttack().font_files
    drawn = [draw_lettering("dog", 224, fonts, np.random.default_rng(seed)) for seed in range(600)]
    assert {lettering.font for lettering in drawn} == set(fonts)
    assert {lettering.colour for lettering in drawn} == {lettering.outline for lettering in drawn} == set(COLOURS)
    assert all(lettering.colour != lettering.outline for lettering in drawn)
    assert {lettering.size for lettering in drawn} == set(range(20, 40))
    places = np.array([lettering.position for lettering in drawn])
    assert (places.min(0) < 5).all()
    assert (places.max(0) > 140).all()
    assert {draw_lettering("dog", 448, fonts, np.random.default_rng(s)).size for s in range(600)} == set(range(40, 80))


def test_lines_break_after_the_first_or_the_second_word():
    names = ["dog", "sports car", "very old dog", "a very old dog", "one two three four five"]
    broken = ["dog", "sports\ncar", "very\nold dog", "a very\nold dog", "one two\nthree four five"]
    assert [break_lines(name) for name in names] == broken


def test_an_image_becomes_the_square_in_its_middle():
    image = Image.new("RGB", (600, 200), "red")
    image.paste("white", (200, 0, 400, 200))
    attacked = TypographicAttack(probability=0)(image, 0, ["a", "b"], split="train", row=0)
    assert attacked.size == (224, 224)
    assert (np.asarray(attacked)[:, 2:-2] == 255).all()
    assert TypographicAttack(image_size=64)(image.convert("L"), 0, ["a", "b"], split="test", row=0).mode == "RGB"
