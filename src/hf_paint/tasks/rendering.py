"""Small synthetic images with captions: coloured shapes, words and numbers.

The toy CLIP model of `hf-paint quickstart` is trained and evaluated on them. All images are RGB, with 32x32 pixels,
and are determined by an integer seed and the fonts that matplotlib ships.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from hf_paint.tasks.lettering import shipped_font


Pixels = NDArray[np.uint8]  # (..., height, width, 3)
Points = NDArray[np.float64]  # (num_points, 2): x to the right, y down
IMAGE_SIZE = 32
_CANVAS_SIZE = 4 * IMAGE_SIZE  # masks are drawn larger and then downsampled, for smooth edges
_TASK_VARIATION = 0.4  # task images vary less than training images, which use 1

COLOURS = {
    "red": (220, 30, 30),
    "orange": (250, 140, 20),
    "yellow": (245, 225, 40),
    "green": (30, 150, 50),
    "cyan": (40, 210, 220),
    "blue": (35, 60, 210),
    "purple": (130, 40, 160),
    "pink": (250, 140, 190),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}

_WORDS = """
    apple arm baby ball bank bird boat book box bread bus cake car cat chair city clock cold cow cup day dog door duck
    egg exit fire fish foot frog game girl gold hand hat horse house ice jump key king lamp leaf lion milk moon music
    night open park pen queen rain river road ship snow stop sun taxi train tree water zoo
"""
_UNSEEN_WORDS = """
    bear camp desk farm goat hotel iron jazz kite lemon mouse nose piano radio sheep tiger voice wolf yarn zebra
"""
WORDS = tuple(_WORDS.split())
UNSEEN_WORDS = tuple(_UNSEEN_WORDS.split())
"""Words that never occur in training images."""

_NUMBER_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

_FONTS = (
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSansMono", "DejaVuSansMono-Bold"),
    *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "STIXGeneralItalic"),
)

_OPENINGS = (
    *("", "", "", "a photo of ", "a picture of ", "an image of ", "a drawing of ", "a small photo of "),
    *("this is ", "here is ", "there is ", "a bright picture of ", "a blurry image of ", "you can see "),
)
_PHRASES = {
    "shape": ("a {}", "the {}", "one {}", "{}", "a shape, a {}", "a flat {}"),
    "word": ('the word "{}"', 'the text "{}"', '"{}"', "the word {}", 'a sign: "{}"', 'the written word: "{}"'),
    "number": ('the number "{}"', 'the number: "{}"', "the number {}", 'the digits "{}"', '"{}"', "the figure: {}"),
}
_ENDINGS = ("", "", ".", ".", "!", " on a plain background.", " in colour")


def _arc(start: float, stop: float, radius: float = 1.0, num_points: int = 40) -> Points:
    """Return points on a circle around the origin, for angles in degrees."""
    angles = np.radians(np.linspace(start, stop, num_points))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _heart() -> Points:
    t = np.linspace(0, 2 * np.pi, 60)
    y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
    return np.stack([16 * np.sin(t) ** 3, -y - 2], axis=1) / 16


def _rotation(degrees: float) -> NDArray[np.float64]:
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([(cos, sin), (-sin, cos)])


_STAR_TIPS, _STAR_NOTCHES = _arc(-90, 198, num_points=5), _arc(-54, 234, radius=0.42, num_points=5)
_CROSS_ARM = np.array([(-0.3, -1.0), (0.3, -1.0), (0.3, -0.3)])

SHAPES: dict[str, NDArray[np.float64]] = {
    "circle": _arc(0, 360),
    "square": _arc(45, 315, radius=1.15, num_points=4),
    "triangle": _arc(-90, 150, radius=1.1, num_points=3),
    "star": np.stack([_STAR_TIPS, _STAR_NOTCHES], axis=1).reshape(-1, 2),
    "cross": np.concatenate([_CROSS_ARM @ _rotation(turn) for turn in (0, 90, 180, 270)]),
    "heart": _heart(),
    "ring": np.concatenate([_arc(0, 360), _arc(360, 0, radius=0.55)]),
    "crescent": np.concatenate([_arc(45, 315), _arc(290, 70, radius=0.8) + np.array((0.42, 0.0))]),
}
"""Name -> outline, a polygon with a radius of about 1."""

UNSEEN_SHAPES = tuple(map(" ".join, product(("red", "blue", "yellow"), ("star", "ring", "square"))))
"""Combinations that never occur in training images, although their colours and shapes do in other combinations."""
SEEN_SHAPES = tuple(name for name in map(" ".join, product(COLOURS, SHAPES)) if name not in UNSEEN_SHAPES)


@dataclass(frozen=True)
class Subject:
    """What an image shows: a kind (`shape`, `word` or `number`) and a name, for instance `red circle` or `42`."""

    kind: str
    name: str


_SHAPE_TEMPLATES = ("a photo of a {}.", "an image of the {}.")
_WORD_TEMPLATES = ('a photo of the word "{}".', 'an image of the text "{}".')
RENDERED_TASKS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "shapes": ("shape", SEEN_SHAPES, _SHAPE_TEMPLATES),
    "words": ("word", WORDS[::2], _WORD_TEMPLATES),
    "numbers": ("number", tuple("0123456789"), ('a photo of the number: "{}".',)),
    "unseen_shapes": ("shape", UNSEEN_SHAPES, _SHAPE_TEMPLATES),
    "unseen_words": ("word", UNSEEN_WORDS, _WORD_TEMPLATES),
}
"""Name -> kind of subject, class names and templates."""


def rendered_task(name: str, num_images: int, seed: int) -> tuple[Pixels, NDArray[np.int64], list[str], list[str]]:
    """Draw the images of one of the `RENDERED_TASKS`.

    Args:
        name: A key of `RENDERED_TASKS`.
        num_images: Number of images; they cycle through the classes.
        seed: Random seed; different seeds give independent images.

    Returns:
        Images (num_images, 32, 32, 3), labels (num_images,), class names and templates.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> images, labels, class_names, templates = rendered_task("words", num_images=64, seed=0)
        >>> images.shape, class_names[labels[1]]
        ((64, 32, 32, 3), 'baby')
    """
    if name not in RENDERED_TASKS:
        raise ValueError(f"There is no rendered task {name!r}. Choose one of {', '.join(RENDERED_TASKS)}.")
    kind, class_names, templates = RENDERED_TASKS[name]
    rng = np.random.default_rng(seed)
    labels = np.arange(num_images) % len(class_names)
    images = np.stack([render(Subject(kind, class_names[label]), rng, _TASK_VARIATION) for label in labels])
    return images, labels, list(class_names), list(templates)


def render_pairs(num_pairs: int, seed: int) -> tuple[Pixels, list[str], list[Subject]]:
    """Draw images of random subjects outside `UNSEEN_SHAPES` and `UNSEEN_WORDS`, with captions.

    Args:
        num_pairs: Number of pairs.
        seed: Random seed; different seeds give independent pairs.

    Returns:
        Images (num_pairs, 32, 32, 3), captions and subjects. A caption fits all images with an equal subject.
    """
    rng = np.random.default_rng(seed)
    subjects = [_random_subject(rng) for _ in range(num_pairs)]
    images = np.stack([render(subject, rng) for subject in subjects])
    return images, [_caption(subject, rng) for subject in subjects], subjects


def _random_subject(rng: np.random.Generator) -> Subject:
    kind = rng.choice(["shape", "word", "number"], p=[0.35, 0.45, 0.2])
    if kind == "shape":
        return Subject("shape", str(rng.choice(SEEN_SHAPES)))
    if kind == "word":
        return Subject("word", str(rng.choice(WORDS)) if rng.random() < 0.5 else _random_letters(rng))
    return Subject("number", str(rng.integers(10) if rng.random() < 0.7 else rng.integers(10, 1000)))


def _caption(subject: Subject, rng: np.random.Generator) -> str:
    name = subject.name
    if subject.kind == "number" and len(name) == 1 and rng.random() < 0.3:
        name = _NUMBER_NAMES[int(name)]
    opening, phrase, ending = (str(rng.choice(part)) for part in (_OPENINGS, _PHRASES[subject.kind], _ENDINGS))
    return f"{opening}{phrase.format(name)}{ending}"


def render(subject: Subject, rng: np.random.Generator, variation: float = 1.0) -> Pixels:
    """Draw a subject, (32, 32, 3). At `variation=0` it is large, upright and clear; 1 is the maximum variation."""
    if subject.kind != "shape":
        return _paint(_text_mask(subject.name, rng, variation), rng.integers(0, 256, 3), rng, variation)
    colour, shape = subject.name.split()
    mask = _shape_mask(shape, rng, variation)
    return _paint(mask, np.array(COLOURS[colour]) + rng.integers(-12, 13, 3), rng, variation)


def _random_letters(rng: np.random.Generator) -> str:
    """Return three to five letters in which consonants and vowels alternate."""
    alternating = ["bcdfghjklmnpqrstvwxyz", "aeiou"] * 3
    start, length = rng.integers(2), rng.integers(3, 6)
    letters = "".join(rng.choice(list(group)) for group in alternating[start : start + length])
    return letters if letters not in UNSEEN_WORDS else _random_letters(rng)


def _shape_mask(shape: str, rng: np.random.Generator, variation: float) -> Image.Image:
    radius = _CANVAS_SIZE * rng.uniform(0.42 - 0.22 * variation, 0.42)
    outline = SHAPES[shape] @ _rotation(variation * rng.uniform(-20, 20)) * radius
    centre = rng.uniform(0.9 * radius, _CANVAS_SIZE - 0.9 * radius, size=2)
    mask = Image.new("L", (_CANVAS_SIZE, _CANVAS_SIZE))
    ImageDraw.Draw(mask).polygon([(x, y) for x, y in outline + centre], fill=255)
    return mask


def _text_mask(text: str, rng: np.random.Generator, variation: float) -> Image.Image:
    """Return the mask of a text whose longer side fills most of the canvas."""
    font = str(rng.choice(_FONTS))
    left, top, right, bottom = _font(font, _CANVAS_SIZE).getbbox(text)
    room = _CANVAS_SIZE * rng.uniform(0.95 - 0.25 * variation, 0.95)
    size = int(_CANVAS_SIZE * min(room / (right - left), room / (bottom - top)))
    left, top, right, bottom = _font(font, size).getbbox(text)
    x, y = (0.5 + variation * rng.uniform(-0.4, 0.4, size=2)) * (
        _CANVAS_SIZE - right + left,
        _CANVAS_SIZE - bottom + top,
    )
    mask = Image.new("L", (_CANVAS_SIZE, _CANVAS_SIZE))
    ImageDraw.Draw(mask).text((x - left, y - top), text, fill=255, font=_font(font, size))
    centre = (x + (right - left) / 2, y + (bottom - top) / 2)
    return mask.rotate(variation * rng.uniform(-6, 6), Image.Resampling.BILINEAR, center=centre)


def _paint(mask: Image.Image, foreground: NDArray[np.int64], rng: np.random.Generator, variation: float) -> Pixels:
    """Paint the mask in the foreground colour over a contrasting gradient, and add noise."""
    coverage = np.asarray(mask.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BOX))[..., None] / 255
    ramp = np.linspace(0, 1, IMAGE_SIZE)[:, None] * rng.choice([-1, 1])
    background = _contrasting(foreground, 135 - 50 * variation, rng) + ramp[..., None] * rng.uniform(0, 40, 3)
    if rng.random() < 0.5:
        background = background.swapaxes(0, 1)
    image = coverage * foreground + (1 - coverage) * background
    noisy: Pixels = (image + rng.normal(0, variation * rng.uniform(0, 12), image.shape)).clip(0, 255).astype(np.uint8)
    return noisy


def _contrasting(colour: NDArray[np.int64], min_distance: float, rng: np.random.Generator) -> NDArray[np.int64]:
    other = rng.integers(0, 256, 3)
    return other if np.abs(other - colour).mean() >= min_distance else _contrasting(colour, min_distance, rng)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(shipped_font(name), size)
