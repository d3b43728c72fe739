"""Pictures decoded once equal those decoded each time, bit for bit, whatever their mode and size."""

import pickle

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image as ImageFeature
from PIL import Image

from drawn_tasks import draw_rows, write_task
from hf_paint import InputError, Task
from hf_paint.data import pictures as pictures_module
from hf_paint.data.images import decode
from hf_paint.data.pictures import Pictures, reduced_size
from hf_paint.data.splits import load_splits
from hf_paint.data.training_images import TrainImages
from hf_paint.data.transforms import PixelTransform


def odd_pictures():
    drawn = draw_rows(1, 0, size=(75, 51))["image"][0]
    deep = Image.fromarray(np.arange(75 * 51, dtype=np.uint16).reshape(51, 75) * 17)
    sizes = [(500, 375), (301, 640), (256, 256), (7, 400), (1, 1), (40, 36)]
    return [*(drawn.convert(mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")), deep, *map(drawn.resize, sizes)]


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    path = tmp_path_factory.mktemp("odd") / "train.parquet"
    images = odd_pictures()
    features = Features({"image": ImageFeature(), "label": ClassLabel(names=["a", "b"])})
    rows = {"image": images, "label": [index % 2 for index in range(len(images))]}
    Dataset.from_dict(rows, features=features).to_parquet(path)
    keys = {"name": "odd", "dataset": "parquet", "data_files": {"train": str(path)}, "templates": ["{}"]}
    task = Task.from_dict(keys | {"splits": {"train": "train", "validation": None, "test": None}})
    return load_splits(task, ("train",))["train"]


def pixels(images, epoch):
    images.set_epoch(epoch)
    return np.stack([images[index]["pixel_values"].numpy() for index in range(len(images))])


@pytest.mark.parametrize("augmentation", ["paint", "none"])
def test_augmented_images_are_the_same_bit_for_bit(split, processor, tmp_path, augmentation):
    transform = PixelTransform(processor)
    usual = TrainImages(split, transform, augmentation, seed=3)
    pictures = Pictures(split, cache_dir=tmp_path)
    cached = TrainImages(split, transform, augmentation, seed=3, pictures=pictures)
    for epoch in range(2):
        assert np.array_equal(pixels(cached, epoch), pixels(usual, epoch))


@pytest.mark.parametrize("max_side", [None, 256, 20])
def test_pictures_keep_their_size_up_to_a_bound(split, tmp_path, max_side):
    kept, read = Pictures(split, max_side, cache_dir=tmp_path), Pictures(split, max_side)
    for index in range(len(split.rows)):
        image = decode(split, index)
        shorter = min(image.size)
        if max_side is not None and shorter > max_side:  # the shorter side is exactly the bound
            size = [round(side * max_side / shorter) for side in image.size]
            assert min(size) == max_side
            image = image.resize(size, Image.Resampling.BICUBIC)
        for picture in (kept.read(index), read.read(index)):
            assert picture.size == image.size
            assert np.array_equal(np.asarray(picture.to_image()), np.asarray(image))
    assert kept.num_bytes == sum(3 * w * h for w, h in (kept.read(i).size for i in range(len(split.rows))))


def test_sizes_of_an_empty_or_tiny_picture():
    assert reduced_size(np.array([[0, 3], [0, 1000]]), 2).tolist() == [[0, 2], [0, 667]]


def test_they_are_decoded_once_and_again_if_the_data_change(tmp_path, monkeypatch):
    decoded = []
    original = pictures_module.decode
    monkeypatch.setattr(pictures_module, "decode", lambda *args: decoded.append(args[1]) or original(*args))

    keys = {"train": 5, "test": 1, "splits": {"validation": None}}
    tasks = [write_task(tmp_path / "data", f"colours{seed}", seed=seed, **keys) for seed in range(2)]

    def read(number):
        pictures = Pictures(load_splits(tasks[number], ("train",))["train"], cache_dir=tmp_path / "cache")
        return np.stack([np.asarray(pictures.read(index).to_image()) for index in range(5)])

    first = read(0)
    assert sorted(decoded) == list(range(5))
    assert np.array_equal(read(0), first)
    assert len(decoded) == 5
    assert not np.array_equal(read(1), first)
    assert len(decoded) == 10


def test_a_worker_that_is_not_forked_opens_the_cache_itself(split, tmp_path):
    pictures = Pictures(split, cache_dir=tmp_path)
    pictures.load()
    copied = pickle.loads(pickle.dumps(pictures))
    assert "_cached" in vars(pictures)
    assert "_cached" not in vars(copied)
    assert np.array_equal(copied.read(8).content, pictures.read(8).content)


def test_pictures_that_do_not_fit(split, tmp_path, monkeypatch):
    pictures = Pictures(split)
    assert pictures.fits_on_disk(tmp_path / "new" / "cache")
    assert pictures.fits_in_memory()
    with monkeypatch.context() as read_only:
        read_only.setattr(pictures_module.os, "access", lambda path, mode: False)
        assert not pictures.fits_on_disk(tmp_path / "new" / "cache")
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", str(pictures.num_bytes / 2e9))
    assert not pictures.fits_on_disk(tmp_path / "new" / "cache")
    monkeypatch.setattr(pictures_module.os, "sysconf", lambda name: 1)
    assert not pictures.fits_in_memory()
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "none")
    with pytest.raises(InputError, match="HF_PAINT_CACHE_LIMIT must be a positive number"):
        pictures.fits_on_disk(tmp_path)
