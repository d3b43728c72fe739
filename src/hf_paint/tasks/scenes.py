"""Scenes: coloured shapes on a plain background, for tasks of counting and of answering questions.

The number of objects, the style and the seed determine a scene.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hf_paint.errors import InputError
from hf_paint.tasks.rendering import COLOURS, SHAPES


Circle = tuple[float, float, float]
"""x, y and radius, as shares of the side of the image."""
SCENE_SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
"""The rendered shapes that are easy to distinguish at a small size."""
SUPERSAMPLING = 4
"""Scenes are drawn this many times larger and averaged down, which smooths their edges."""
NUM_DRAWS = 200
"""The attempts to place an object before the scene starts over."""
NUM_STARTS = 50
"""The attempts to place all objects of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStyle:
    """The look of scenes.

    Attributes:
        image_size: The side of the image, in pixels.
        radius: The smallest and the largest radius of an object, as a share of the side.
        max_overlap: The largest overlap of the circles around two objects, as a share of the diameter of the smaller
            one: 0 keeps objects apart, 1 lets one lie within another.
        gap: The smallest distance between objects if `max_overlap` is 0, as a share of the side.
        shapes: Names of `hf_paint.tasks.rendering.SHAPES`.
        colours: Names of `hf_paint.tasks.rendering.COLOURS`.
        distinct: Whether all objects of a scene differ in shape and in colour.

    Example:
        >>> crowded = SceneStyle(radius=(0.1, 0.2), max_overlap=0.5, colours=["red", "blue"])
        >>> len(draw_scene(12, seed=0, style=crowded).objects)
        12
    """

    image_size: int = 64
    radius: tuple[float, float] = (0.07, 0.11)
    max_overlap: float = 0.0
    gap: float = 0.02
    shapes: Sequence[str] = SCENE_SHAPES
    colours: Sequence[str] = tuple(COLOURS)
    distinct: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        shape: Its shape.
        colour: The name of its colour.
        centre: x to the right and y down, as shares of the side.
        radius: The radius of the circle around it, as a share of the side.
    """

    shape: str
    colour: str
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A scene: its objects and its image.

    Attributes:
        objects: The objects in the image.
        image: An RGB image of `image_size` by `image_size` pixels.
    """

    objects: tuple[SceneObject, ...]
    image: Image.Image


def draw_scene(num_objects: int, seed: int | Sequence[int], style: SceneStyle | None = None) -> Scene:
    """Draw a scene.

    Args:
        num_objects: The number of objects.
        seed: The seed; scenes of different seeds are independent.
        style: The look of the scene.

    Raises:
        InputError: If the objects do not fit, or the style has too few shapes or colours for them to differ.

    Example:
        >>> scene = draw_scene(3, seed=0)
        >>> len(scene.objects), scene.image.size
        (3, (64, 64))
    """
    style = style or SceneStyle()
    rng = np.random.default_rng(seed)
    places = _places(num_objects, rng, style)
    shapes, colours = (_draw_names(names, num_objects, rng, style) for names in (style.shapes, style.colours))
    objects = tuple(
        SceneObject(shape=shape, colour=colour, centre=(x, y), radius=radius)
        for shape, colour, (x, y, radius) in zip(shapes, colours, places, strict=True)
    )
    return Scene(objects=objects, image=_paint(objects, rng, style.image_size))


def _places(num_objects: int, rng: np.random.Generator, style: SceneStyle) -> list[Circle]:
    """Return a circle for each object; the largest is placed first, which leaves the most room."""
    for _ in range(NUM_STARTS):
        places: list[Circle] = []
        for radius in sorted(rng.uniform(*style.radius, num_objects), reverse=True):
            for x, y in rng.uniform(radius, 1 - radius, (NUM_DRAWS, 2)):
                if all(_fits((x, y, radius), other, style) for other in places):
                    places.append((float(x), float(y), float(radius)))
                    break
        if len(places) == num_objects:
            order = rng.permutation(num_objects)
            return [places[index] for index in order]
    raise InputError(
        f"{num_objects} objects with radii from {style.radius[0]:g} to {style.radius[1]:g} do not fit into a scene. "
        "Lower `radius` or raise `max_overlap`."
    )


def _fits(first: Circle, second: Circle, style: SceneStyle) -> bool:
    """Return whether two circles keep the gap, or overlap by no more than the style allows."""
    distance = np.hypot(first[0] - second[0], first[1] - second[1])
    reach = style.max_overlap * 2 * min(first[2], second[2]) or -style.gap
    return bool(distance >= first[2] + second[2] - reach)


def _draw_names(names: Sequence[str], count: int, rng: np.random.Generator, style: SceneStyle) -> list[str]:
    if style.distinct and count > len(names):
        raise InputError(f"{count} objects cannot all differ: the style has only {len(names)}: {', '.join(names)}.")
    return [str(name) for name in rng.choice(list(names), count, replace=not style.distinct)]


def _paint(objects: Sequence[SceneObject], rng: np.random.Generator, image_size: int) -> Image.Image:
    """Draw the objects over one another on a contrasting background, and add a little noise."""
    side = SUPERSAMPLING * image_size
    background = _background([COLOURS[item.colour] for item in objects], rng)
    canvas = Image.new("RGB", (side, side), tuple(background))
    draw = ImageDraw.Draw(canvas)
    for item in objects:
        outline = side * (_outline(item, rng.uniform(-20, 20)) + item.centre)
        draw.polygon([(x, y) for x, y in outline], fill=COLOURS[item.colour])
    small = np.asarray(canvas.resize((image_size, image_size), Image.Resampling.BOX), dtype=np.float64)
    noisy = small + rng.normal(0, 4, small.shape)
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def _outline(item: SceneObject, degrees: float) -> NDArray[np.float64]:
    """Return a turned outline (num_points, 2) around the origin that touches the circle of the object."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    points = SHAPES[item.shape] @ np.array([(cos, sin), (-sin, cos)])
    scaled: NDArray[np.float64] = points * (item.radius / np.linalg.norm(points, axis=1).max())
    return scaled


def _background(colours: Sequence[tuple[int, int, int]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Draw twenty colours and return the one that differs most from all colours of the objects."""
    drawn: NDArray[np.int64] = rng.integers(40, 216, (20, 3))
    distances = np.abs(drawn[:, None] - np.reshape(colours, (-1, 3))).mean(axis=2).min(axis=1, initial=np.inf)
    best: NDArray[np.int64] = drawn[distances.argmax()]
    return best
