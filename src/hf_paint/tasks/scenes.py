"""Scenes: coloured shapes on a plain background, for counting and question-answering tasks.

A scene is determined by the number of objects, the style and the seed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from hf_paint.errors import InputError
from hf_paint.tasks.rendering import COLOURS, SHAPES


Circle = tuple[float, float, float]
"""x, y and radius, as fractions of the image size."""
SCENE_SHAPES = ("circle", "square", "triangle", "star", "cross", "heart")
"""Shapes that are easy to tell apart at a small size."""
SUPERSAMPLING = 4
"""Scenes are drawn at this multiple of their size and then downsampled, for smooth edges."""
NUM_DRAWS = 200
"""Number of attempts to place an object before starting over with the whole scene."""
NUM_STARTS = 50
"""Number of attempts to place all objects of a scene."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneStyle:
    """The appearance of scenes.

    Attributes:
        image_size: Side length of the image in pixels.
        radius: Minimum and maximum radius of an object, as a fraction of the image size.
        max_overlap: Maximum overlap of the circles around two objects, as a fraction of the smaller diameter. With 0,
            objects never touch; with 1, an object may be completely inside another.
        gap: Minimum distance between objects if `max_overlap` is 0, as a fraction of the image size.
        shapes: Names from `hf_paint.tasks.rendering.SHAPES`.
        colours: Names from `hf_paint.tasks.rendering.COLOURS`.
        distinct: Whether all objects in a scene have different shapes and different colours.

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
    """One object in a scene.

    Attributes:
        shape: Name of the shape.
        colour: Name of the colour.
        centre: x (to the right) and y (down), as fractions of the image size.
        radius: Radius of the circle around the object, as a fraction of the image size.
    """

    shape: str
    colour: str
    centre: tuple[float, float]
    radius: float


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """A scene: an image and the objects in it.

    Attributes:
        objects: Objects in the image.
        image: RGB image of `image_size` by `image_size` pixels.
    """

    objects: tuple[SceneObject, ...]
    image: Image.Image


def draw_scene(num_objects: int, seed: int | Sequence[int], style: SceneStyle | None = None) -> Scene:
    """Draw a scene.

    Args:
        num_objects: Number of objects.
        seed: Random seed; different seeds give independent scenes.
        style: Appearance of the scene.

    Returns:
        The RGB image and the objects in it.

    Raises:
        InputError: If the objects do not fit, or they must be distinct and there are too few shapes or colours.

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
    """Return a circle for each object; larger ones are placed first, while there is still room for them."""
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
    """Return whether two circles are at least `gap` apart or, if `max_overlap` is set, overlap by at most that."""
    distance = np.hypot(first[0] - second[0], first[1] - second[1])
    reach = style.max_overlap * 2 * min(first[2], second[2]) or -style.gap
    return bool(distance >= first[2] + second[2] - reach)


def _draw_names(names: Sequence[str], count: int, rng: np.random.Generator, style: SceneStyle) -> list[str]:
    if style.distinct and count > len(names):
        raise InputError(
            f"{count} distinct objects need {count} different shapes and colours, but the style only has "
            f"{len(names)}: {', '.join(names)}."
        )
    return [str(name) for name in rng.choice(list(names), count, replace=not style.distinct)]


def _paint(objects: Sequence[SceneObject], rng: np.random.Generator, image_size: int) -> Image.Image:
    """Draw the objects in order on a contrasting background, and add a little noise."""
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
    """Return the rotated outline (num_points, 2), centred on the origin and scaled to the radius of the object."""
    cos, sin = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    points = SHAPES[item.shape] @ np.array([(cos, sin), (-sin, cos)])
    scaled: NDArray[np.float64] = points * (item.radius / np.linalg.norm(points, axis=1).max())
    return scaled


def _background(colours: Sequence[tuple[int, int, int]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the one of twenty random colours that contrasts most with the colours of the objects."""
    drawn: NDArray[np.int64] = rng.integers(40, 216, (20, 3))
    distances = np.abs(drawn[:, None] - np.reshape(colours, (-1, 3))).mean(axis=2).min(axis=1, initial=np.inf)
    best: NDArray[np.int64] = drawn[distances.argmax()]
    return best
