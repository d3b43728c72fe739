import numpy as np
import pytest

from hf_paint.tasks.rendering import RENDERED_TASKS, UNSEEN_SHAPES, UNSEEN_WORDS, render_pairs, rendered_task


@pytest.mark.parametrize("name", RENDERED_TASKS)
def test_task_follows_from_its_seed(name):
    images, labels, class_names, templates = rendered_task(name, 40, seed=3)
    assert images.shape == (40, 32, 32, 3)
    assert images.dtype == np.uint8
    assert set(labels) <= set(range(len(class_names)))
    assert all(template.count("{}") == 1 for template in templates)
    assert np.array_equal(images, rendered_task(name, 40, seed=3)[0])
    assert not np.array_equal(images, rendered_task(name, 40, seed=4)[0])


def test_training_never_shows_what_is_held_out():
    _, captions, subjects = render_pairs(3000, seed=0)
    held_out = {*UNSEEN_SHAPES, *UNSEEN_WORDS}
    assert not held_out & {subject.name for subject in subjects}
    words = {word for caption in captions for word in caption.lower().replace('"', " ").replace(".", " ").split()}
    assert not words & set(UNSEEN_WORDS)
    assert {subject.kind for subject in subjects} == {"shape", "word", "number"}


def test_unknown_task():
    with pytest.raises(ValueError, match="no rendered task 'nonsense'"):
        rendered_task("nonsense", 1, seed=0)
