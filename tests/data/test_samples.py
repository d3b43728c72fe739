"""Samples of a split: how many images of each class, and that only these are decoded."""

from dataclasses import replace

import numpy as np
import pytest
from accelerate import Accelerator

from drawn_tasks import write_task
from hf_paint import InputError, Task, evaluate_tasks
from hf_paint.cli.main import main
from hf_paint.data import images
from hf_paint.data.images import CachedImages, decode
from hf_paint.data.samples import draw, sample_splits
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.prepared_task import prepare_task
from hf_paint.models.towers import image_tower
from hf_paint.tasks.scene_tasks import write_questions_task
from hf_paint.tasks.scenes import SceneStyle
from scenes_of_colours import write_scenes


SIZES = {
    "equal": [50] * 10,
    "unequal": [400, 90, 7, 2, 1],
    "one rare class": [998, 1, 1],
    "many classes": [5] * 300,
    "one class": [60],
    "random": np.random.default_rng(0).integers(1, 200, size=40).tolist(),
}


@pytest.mark.parametrize("count", [1, 3, 7, 45, 59])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
def test_every_class_gets_its_share(sizes, count):
    classes = np.random.default_rng(1).permutation(np.repeat(np.arange(len(sizes)) * 3, sizes))
    indices = draw(classes, count)
    assert sorted(set(indices.tolist())) == indices.tolist()
    assert len(indices) == count
    drawn = np.array([(classes[indices] == 3 * c).sum() for c in range(len(sizes))])
    assert (drawn <= sizes).all()
    quotas = count * np.array(sizes) / sum(sizes)
    if count < len(sizes):
        assert drawn.max() == 1
    else:
        assert drawn.min() >= 1
    if quotas.min() >= 1:  # the largest remainders
        rest = np.argsort(np.floor(quotas) - quotas)[: count - int(np.floor(quotas).sum())]
        assert sorted(drawn - np.floor(quotas)) == sorted(np.isin(np.arange(len(sizes)), rest))
        assert (np.abs(drawn - quotas) < 1).all()


def test_a_rare_class_costs_the_others_little():
    classes = np.repeat([0, 1, 2, 3], [600, 390, 9, 1])
    assert np.bincount(classes[draw(classes, 10)]).tolist() == [5, 3, 1, 1]


def test_images_of_a_class_are_drawn_evenly_and_never_anew():
    classes = np.repeat([0, 1], [30, 10])
    drawn = np.concatenate([draw(classes, 8, seed=seed) for seed in range(2000)])
    counts = np.bincount(drawn, minlength=40) / 2000
    assert counts == pytest.approx(np.full(40, 0.2), abs=0.05)
    assert draw(classes, 8).tolist() == draw(classes, 8).tolist() != draw(classes, 8, seed=1).tolist()
    first_of_ten = np.mean([(classes_of(draw(np.repeat(np.arange(10), 5), 5, seed=s)) < 5).mean() for s in range(500)])
    assert first_of_ten == pytest.approx(0.5, abs=0.05)


def classes_of(indices):
    return indices // 5


@pytest.fixture
def decoded(monkeypatch):
    """The rows whose images are decoded."""
    rows, whole = [], images.read_image
    monkeypatch.setattr(images, "read_image", lambda row, *args: rows.append(row) or whole(row, *args))
    return rows


def sampled(task, count, split="test"):
    return sample_splits(load_splits(task, (split,)), count)[split]


@pytest.mark.parametrize("keys", [{}, {"attack": {"seed": 2}}, {"corruption": {"name": "noise", "severity": 3}}])
def test_only_drawn_images_are_decoded_and_they_are_those_of_the_split(keys, task, processor, decoded, tmp_path):
    task, transform = Task.from_dict(task.to_dict() | keys), PixelTransform(processor)
    split = sampled(task, 9)
    indices = split.sample.indices
    found = CachedImages(split, transform, cache_dir=tmp_path / "one")
    assert len(decoded) == len(found) == 9
    whole = CachedImages(load_splits(task, ("test",))["test"], transform, cache_dir=tmp_path / "two")
    assert len(decoded) == 9 + 40
    again = CachedImages(split, transform, cache_dir=tmp_path / "two")
    assert len(decoded) == 9 + 40  # the pixels of the whole split are used
    for one in (found, again):
        assert np.array_equal(one.pixels, whole.pixels[indices])
        assert one.labels.tolist() == whole.labels[indices].tolist()
        assert (one.written is None) == (whole.written is None)
        assert one.written is None or one.written.tolist() == whole.written[indices].tolist()
    assert found.fingerprint == again.fingerprint != whole.fingerprint
    assert (found.drawn_from, whole.drawn_from) == (40, None)
    pixels = transform.resize_and_crop(decode(split, 4)).numpy()
    assert np.array_equal(pixels, whole.pixels[indices[4]])


def test_a_corrupt_image_is_named_by_its_place_in_the_split(task, processor, tmp_path, monkeypatch):
    split = sampled(task, 9)
    monkeypatch.setattr(images, "read_image", lambda *_: (_ for _ in ()).throw(OSError("broken")))
    with pytest.raises(InputError, match=f"Image {split.sample.indices[0]} of the test split"):
        CachedImages(split, PixelTransform(processor), cache_dir=tmp_path)


def test_copies_of_a_task_have_the_same_sample(task):
    noisy = Task.from_dict(task.to_dict() | {"name": "noisy", "corruption": {"name": "noise", "severity": 3}})
    assert sampled(task, 9).sample.indices.tolist() == sampled(noisy, 9).sample.indices.tolist()
    assert sampled(task, 9).fingerprint == sampled(noisy, 9).fingerprint != sampled(task, 10).fingerprint


@pytest.mark.parametrize("count", [None, 40, 50])
def test_a_split_with_no_more_images_is_whole(count, task):
    split = load_splits(task, ("test",))["test"]
    assert sampled(task, count).sample is None
    assert sampled(task, count).fingerprint == split.fingerprint


@pytest.mark.parametrize("count", [0, -3, True, 2.5])
def test_numbers_that_are_no_numbers_of_images_are_refused(count, task):
    with pytest.raises(InputError, match=f"must be a positive number of images, got {count}"):
        sampled(task, count)


def test_a_stream_is_refused(tmp_path, model, processor):
    stream = write_task(tmp_path, streaming=True, splits={"validation": None})
    with pytest.raises(InputError, match="'colours' is streamed, so `max_eval_images` cannot draw"):
        prepare_task(stream, model, processor, splits=("test",), max_images=5)


def test_a_class_of_a_multi_label_task_is_that_which_the_fewest_images_have(tmp_path):
    task = write_scenes(tmp_path, test=40)
    labels = [[c for c in row if c >= 0] for row in load_splits(task, ("test",))["test"].labels().tolist()]
    number = [sum(c in row for row in labels) for c in range(4)]
    strata = [min(row, key=number.__getitem__) if row else -1 for row in labels]
    drawn = sampled(task, 12)
    sizes, shares = (
        np.unique(values, return_counts=True) for values in (strata, np.take(strata, drawn.sample.indices))
    )
    assert shares[0].tolist() == sizes[0].tolist()
    assert np.abs(shares[1] - 12 * sizes[1] / 40).max() < 1
    assert drawn.sample.drawn_from == sum(bool(row) for row in labels) < 40


def test_questions_are_drawn_by_the_type_of_their_answer(tmp_path, model, processor):
    style = SceneStyle(image_size=32)
    task = write_questions_task(tmp_path, sizes={"train": 8, "validation": 8, "test": 10}, style=style)
    task = replace(task, prompt="{answer} {question}")
    whole, few = (prepare_task(task, model, processor, splits=("test",), max_images=count) for count in (None, 10))
    types, drawn = (prepared.images["test"].choices.answer_types for prepared in (whole, few))
    assert {*types} == {*drawn}
    assert all(abs(drawn.count(kind) - 10 * types.count(kind) / len(types)) < 1 for kind in {*types})
    assert set(few.class_names) < set(whole.class_names)  # prompts that no drawn row has are not embedded
    indices = sampled(task, 10).sample.indices
    evaluator = Evaluator(Accelerator(cpu=True))
    tower = image_tower(model)
    all_of_them, drawn = (evaluator.predict(tower, prepared, "test") for prepared in (whole, few))
    assert drawn.predicted.tolist() == all_of_them.predicted[indices].tolist()
    assert drawn.loss == pytest.approx(all_of_them.loss[indices], abs=1e-5)


def test_evaluating_a_sample_is_evaluating_these_images(task, model, processor):
    whole = prepare_task(task, model, processor, splits=("test",))
    predictions = Evaluator(Accelerator(cpu=True)).predict(image_tower(model).eval(), whole, "test")
    [few] = evaluate_tasks(model, [task], processor=processor, max_eval_images=9)
    [all_of_them] = evaluate_tasks(model, [task], processor=processor)
    assert (few.total, few.drawn_from, few.num_images) == (9, 40, "9 of 40")
    assert (all_of_them.total, all_of_them.sample, all_of_them.num_images) == (40, None, "40")
    assert few.correct == int(predictions.correct[sampled(task, 9).sample.indices].sum())
    assert few.key != all_of_them.key
    assert few.rows_fingerprint != all_of_them.rows_fingerprint


def test_the_command_says_how_many_images(tasks_folder, model_folder, capsys):
    path = next(tasks_folder.glob("*.yaml"))
    assert main(["evaluate", model_folder, "--tasks", str(path), "--max_eval_images", "9", "--use_cpu"]) == 0
    assert " 9 of 40 " in capsys.readouterr().out
    assert main(["evaluate", model_folder, "--tasks", str(path), "--max_eval_images", "0"]) == 2
    assert "must be a positive integer, got '0'" in capsys.readouterr().err
