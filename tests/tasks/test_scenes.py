from itertools import combinations

import numpy as np
import pytest
from scipy import ndimage

from hf_paint import InputError
from hf_paint.tasks.rendering import COLOURS
from hf_paint.tasks.scenes import SCENE_SHAPES, SceneStyle, draw_scene


def gaps(scene):
    """Distance between two objects' circles minus the sum of their radii, in units of the smaller diameter."""
    for a, b in combinations(scene.objects, 2):
        distance = np.linalg.norm(np.subtract(a.centre, b.centre))
        yield (distance - a.radius - b.radius) / (2 * min(a.radius, b.radius))


def count_blobs(image):
    """Connected regions that differ from the corner pixel by far more than the noise of a scene."""
    pixels = np.asarray(image).astype(int)
    foreground = np.abs(pixels - np.median(pixels.reshape(-1, 3), axis=0)).mean(axis=-1) > 20
    labels, _ = ndimage.label(foreground, structure=np.ones((3, 3)))
    return int((np.bincount(labels.ravel())[1:] >= 12).sum())


@pytest.mark.parametrize("count", range(11))
def test_a_scene_shows_as_many_objects_as_it_says(count):
    for seed in range(5):
        scene = draw_scene(count, (seed, count), SceneStyle(image_size=160))
        assert len(scene.objects) == count == count_blobs(scene.image)
        assert min(gaps(scene), default=1) > 0
        for item in scene.objects:
            assert item.radius <= min(item.centre)
            assert max(item.centre) <= 1 - item.radius
            assert 0.07 <= item.radius <= 0.11


def test_a_scene_follows_from_its_seed():
    first, again, other = (draw_scene(5, seed) for seed in (1, 1, 2))
    assert first.objects == again.objects
    assert np.array_equal(first.image, again.image)
    assert first.image.size == (64, 64)
    assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize("limit", [0.0, 0.2, 0.6])
def test_overlap_stays_within_its_limit(limit):
    style = SceneStyle(radius=(0.08, 0.14), max_overlap=limit)
    deepest = [-min(gaps(draw_scene(8, seed, style))) for seed in range(40)]
    assert max(deepest) <= limit
    assert max(deepest) > limit - 0.05 or limit == 0


def test_style_is_obeyed():
    style = SceneStyle(shapes=["circle", "star"], colours=["red"], image_size=48)
    scene = draw_scene(6, 0, style)
    assert {item.colour for item in scene.objects} == {"red"}
    assert {item.shape for item in scene.objects} == {"circle", "star"}
    assert scene.image.size == (48, 48)
    distinct = draw_scene(6, 0, SceneStyle(distinct=True))
    assert {item.shape for item in distinct.objects} == set(SCENE_SHAPES)
    assert len({item.colour for item in distinct.objects}) == 6


def test_objects_have_the_colour_they_are_said_to_have():
    for seed in range(20):
        scene = draw_scene(2, seed, SceneStyle(image_size=128, radius=(0.15, 0.2)))
        for item in scene.objects:
            x, y = (int(128 * c) for c in item.centre)
            assert np.abs(np.asarray(scene.image)[y, x] - np.array(COLOURS[item.colour])).max() < 20


def test_what_has_no_room_is_refused():
    with pytest.raises(InputError, match="30 objects with radii from 0.1 to 0.2 do not fit"):
        draw_scene(30, 0, SceneStyle(radius=(0.1, 0.2)))
    with pytest.raises(InputError, match="the style only has 2: circle, star"):
        draw_scene(3, 0, SceneStyle(distinct=True, shapes=["circle", "star"]))
