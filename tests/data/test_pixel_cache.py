import io
import json
import logging
import os
import shutil
import threading
import time
import zlib
from argparse import Namespace
from collections import namedtuple
from functools import partial

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, Image as ImageFeature, Value
from PIL import Image, ImageOps
from transformers import CLIPImageProcessorPil, CLIPProcessor

from drawn_tasks import draw_rows, encode
from forked_calls import Fork
from hf_paint import InputError, Task, fingerprints
from hf_paint.data import checksums
from hf_paint.data.images import CachedImages, decode
from hf_paint.data.pixel_cache import cache_limit, open_pixels
from hf_paint.data.splits import load_splits
from hf_paint.data.threads import in_threads
from hf_paint.data.transforms import PixelTransform
from hf_paint.evaluation.prepared_task import prepare_task


MEGABYTE = 1_000_000


def entry(folder, name, *, num_images=4, seed=0, calls=None, num_bytes="known", image=(3, 500, 500)):
    """Open an entry of drawn pixels, by default of 3 MB."""
    pixels = np.random.default_rng(seed).integers(256, size=(num_images, *image), dtype=np.uint8)

    def examples():
        for index in range(num_images):
            if calls is not None:
                calls.append(index)
            yield pixels[index], index % 3

    size = pixels.nbytes if num_bytes == "known" else num_bytes
    found, labels = open_pixels(folder / "pixels" / name, examples, name=f"test split of '{name}'", num_bytes=size)
    assert np.array_equal(found, pixels)
    assert np.array_equal(labels, np.arange(num_images) % 3)
    return found


def names(folder):
    return sorted(path.name for path in (folder / "pixels").iterdir() if path.is_dir())


def odd_images():
    """Encoded images of every mode and orientation, all of odd sizes."""
    drawn = draw_rows(1, 0, size=(75, 51))["image"][0]
    images = {}

    def add(name, image, image_format, **keys):
        file = io.BytesIO()
        image.save(file, image_format, **keys)
        images[f"{name}.{image_format.lower()}"] = file.getvalue()

    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        add(f"turned{orientation}", drawn, "JPEG", exif=exif)
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned", drawn, "PNG", exif=exif)
    for mode in ("CMYK", "L", "YCbCr"):
        add(mode, drawn.convert(mode), "JPEG")
    add("progressive", drawn, "JPEG", progressive=True, subsampling=2)
    add("large", drawn.resize((1501, 1103)), "JPEG")  # large enough for a draft, which would change the pixels
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        add(mode, drawn.convert(mode), "PNG")
    add("palette", drawn.convert("P"), "PNG", transparency=3)
    add("deep", Image.fromarray(np.arange(75 * 51, dtype=np.uint16).reshape(51, 75) * 17), "PNG")
    frames = [image.convert("P") for image in draw_rows(2, 1, size=(41, 77))["image"]]
    add("moving", frames[0], "GIF", save_all=True, append_images=frames[1:])
    add("deep", Image.fromarray(np.linspace(0, 255, 75 * 51, dtype=np.float32).reshape(51, 75)), "TIFF")
    return images


def write_folder(folder, files):
    """Write an imagefolder of two classes, the second of which has one image that sorts last."""
    for name in ("only", "zero"):
        (folder / name).mkdir(parents=True)
    for name, data in files.items():
        (folder / "only" / name).write_bytes(data)
    draw_rows(1, 0)["image"][0].save(folder / "zero" / "last.png")


@pytest.mark.parametrize("stored", ["bytes", "paths"])
def test_images_of_every_kind_equal_those_of_the_processor(stored, processor, tmp_path):
    files = odd_images()
    if stored == "paths":
        write_folder(tmp_path / "data", files)
        source = {"dataset": "imagefolder", "data_dir": str(tmp_path / "data"), "splits": {"test": "train"}}
    else:
        features = Features({"image": ImageFeature(), "label": Value("string")})
        rows = [{"image": {"bytes": files[name], "path": name}, "label": "only"} for name in sorted(files)]
        Dataset.from_list(rows, features=features).to_parquet(tmp_path / "test.parquet")
        source = {"dataset": "parquet", "data_files": {"test": str(tmp_path / "test.parquet")}}
    splits = {"train": None, "validation": None, "test": "test"} | source.pop("splits", {})
    task = Task.from_dict(
        {"name": "odd", "class_names": ["only", "zero"], "templates": ["{}"], "splits": splits} | source
    )
    cached = CachedImages(load_splits(task, ("test",))["test"], PixelTransform(processor), cache_dir=tmp_path)
    for index, name in enumerate(sorted(files)):
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(files[name])))
        if image.mode == "I;16":  # transformers makes all levels above 255 white
            image = Image.fromarray(np.rint(np.asarray(image) / 257).astype(np.uint8))
        expected = processor.image_processor(image, do_rescale=False, do_normalize=False, return_tensors="np")
        assert np.array_equal(cached.pixels[index], expected["pixel_values"][0]), name


@pytest.mark.shared
def test_native_photographs_equal_those_of_the_processor(shared, processor, tmp_path):
    files = {"test": str(shared / "data" / "imagenet_sample" / "test.parquet")}
    splits = {"train": None, "validation": None, "test": "test"}
    task = {"name": "photos", "dataset": "parquet", "data_files": files, "splits": splits, "templates": ["{}"]}
    split = load_splits(Task.from_dict(task), ("test",))["test"]
    pil = CLIPImageProcessorPil()
    cached = CachedImages(split, PixelTransform(CLIPProcessor(pil, processor.tokenizer)), cache_dir=tmp_path)
    for index in range(len(cached)):
        image = decode(split, index)
        expected = pil(image, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
        assert np.array_equal(cached.pixels[index], expected)


def test_threads_keep_the_order_and_stop_at_the_first_error():
    assert list(in_threads(lambda number: number * 2, range(1000))) == list(range(0, 2000, 2))
    started, names = [], set()

    def fail_at_five(number):
        started.append(number)
        names.add(threading.current_thread().name)
        if number == 5:
            raise InputError("five")
        return number

    with pytest.raises(InputError, match="five"):
        list(in_threads(fail_at_five, range(100_000)))
    assert len(started) < 1000
    assert threading.main_thread().name not in names
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]


def test_corrupt_file_of_a_folder_is_named_and_nothing_is_left(processor, tmp_path):
    drawn = [encode(image, "JPEG")["bytes"] for image in draw_rows(12, 0)["image"]]
    drawn[9] = drawn[9][:200]
    write_folder(tmp_path / "data", {f"photo_{index:02}.jpg": data for index, data in enumerate(drawn)})
    source = {"dataset": "imagefolder", "data_dir": str(tmp_path / "data"), "class_names": ["only", "zero"]}
    splits = {"train": None, "validation": None, "test": "train"}
    task = Task.from_dict({"name": "photos", "templates": ["{}"], "splits": splits} | source)
    with pytest.raises(InputError, match="Image 9 of the test split of task 'photos' cannot be read .'/.*/photo_09"):
        CachedImages(load_splits(task, ("test",))["test"], PixelTransform(processor), cache_dir=tmp_path / "cache")
    assert names(tmp_path / "cache") == []


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGES = {
    "a bit of the pixels": lambda folder: flip_a_bit(folder / "pixels.bin"),
    "a bit of the labels": lambda folder: flip_a_bit(folder / "labels.npy"),
    "cut pixels": lambda folder: os.truncate(folder / "pixels.bin", MEGABYTE),
    "no labels": lambda folder: (folder / "labels.npy").unlink(),
    "no description": lambda folder: (folder / "meta.json").unlink(),
    "empty description": lambda folder: (folder / "meta.json").write_text(""),
    "foreign description": lambda folder: (folder / "meta.json").write_text("[1]"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_entry_is_announced_and_decoded_again(damage, tmp_path, caplog):
    calls = []
    entry(tmp_path, "a", calls=calls)
    entry(tmp_path, "a", calls=calls)
    assert calls == [0, 1, 2, 3]
    assert not caplog.records
    DAMAGES[damage](tmp_path / "pixels" / "a")
    with caplog.at_level(logging.WARNING, "hf_paint"):
        entry(tmp_path, "a", calls=calls)
    assert calls == [0, 1, 2, 3] * 2
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "The cached pixels of the test split of 'a' are damaged and will be decoded again"
    ]
    entry(tmp_path, "a", calls=calls)
    assert len(calls) == 8


def test_checksums_are_those_of_the_files_and_compared_once_per_process(tmp_path, monkeypatch):
    entry(tmp_path, "a")
    folder, counted, crc32 = tmp_path / "pixels" / "a", [], zlib.crc32
    meta = json.loads((folder / "meta.json").read_text())
    assert meta["crc32"] == {name: crc32((folder / name).read_bytes()) for name in ("pixels.bin", "labels.npy")}
    assert meta["shape"] == [4, 3, 500, 500]
    monkeypatch.setattr(zlib, "crc32", lambda data, start=0: counted.append(len(data)) or crc32(data, start))
    for _ in range(3):
        entry(tmp_path, "a")
    assert sum(counted) == 3 * MEGABYTE + (folder / "labels.npy").stat().st_size


def test_of_several_processes_the_first_verifies_for_all(tmp_path, monkeypatch):
    entry(tmp_path, "a")
    counted, crc32 = [], zlib.crc32
    monkeypatch.setattr(zlib, "crc32", lambda data, start=0: counted.append(len(data)) or crc32(data, start))

    def bytes_read(*, started=checksums.STARTED):
        """Bytes that another process reads, which started then, to verify the entry."""
        counted.clear()
        fingerprints._read_checksum.cache_clear()
        monkeypatch.setattr(checksums, "STARTED", started)
        entry(tmp_path, "a")
        return sum(counted)

    size = sum((tmp_path / "pixels" / "a" / name).stat().st_size for name in ("pixels.bin", "labels.npy"))
    assert bytes_read() == size
    assert bytes_read() == 0
    assert bytes_read(started=time.time()) == size  # a later run does not trust an earlier one
    monkeypatch.setattr("platform.node", lambda: "another node")
    assert bytes_read() == size
    (tmp_path / "pixels" / "a" / "verified.json").write_text("[1]")
    assert bytes_read() == size
    flip_a_bit(tmp_path / "pixels" / "a" / "pixels.bin")
    assert bytes_read() > size  # decoded again
    assert bytes_read() == size


def test_the_second_process_of_a_run_does_not_use_damaged_pixels(task, model, processor, tmp_path, monkeypatch):
    prepare = partial(prepare_task, task, model, processor, splits=("test",), cache_dir=tmp_path / "cache")
    expected = prepare().images["test"].pixels.copy()
    [folder] = (tmp_path / "cache" / "pixels").glob("*/")
    flip_a_bit(folder / "pixels.bin")
    monkeypatch.setattr("hf_paint.models.processes.PartialState", lambda: Namespace(is_local_main_process=False))
    assert np.array_equal(prepare().images["test"].pixels, expected)


def test_what_a_killed_run_left_is_replaced(tmp_path):
    (tmp_path / "pixels" / "a.partial").mkdir(parents=True)
    (tmp_path / "pixels" / "a.partial" / "pixels.bin").write_bytes(b"abc")
    entry(tmp_path, "a")
    assert names(tmp_path) == ["a"]


def test_entries_that_were_not_opened_for_longest_make_room(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "0.0095")  # three entries of 3 MB with their labels
    for seconds, name in enumerate("abc"):
        entry(tmp_path, name)
        os.utime(tmp_path / "pixels" / name, (seconds, seconds))
    in_use = entry(tmp_path, "a")
    (tmp_path / "pixels" / "killed.partial").mkdir()
    os.utime(tmp_path / "pixels" / "killed.partial", (0, 0))
    before = in_use.copy()
    entry(tmp_path, "d", seed=1)
    assert names(tmp_path) == ["a", "c", "d"]
    entry(tmp_path, "e", seed=2, num_images=9, image=(3, 500, 600))
    assert names(tmp_path) == ["e"]
    assert np.array_equal(in_use, before)


def test_an_entry_that_is_locked_stays(tmp_path, monkeypatch):
    from filelock import FileLock

    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "0.004")
    entry(tmp_path, "a")
    with FileLock(tmp_path / "pixels" / "a.lock"):
        entry(tmp_path, "b")
    assert names(tmp_path) == ["a", "b"]


def test_a_split_over_the_limit_is_refused_before_it_is_decoded(tmp_path, monkeypatch):
    calls = []
    entry(tmp_path, "a")
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "0.2")
    message = r"of the test split of 'b' needs at least 0.3 GB, but the cache is limited to 0.2 GB. Raise HF_PAINT"
    with pytest.raises(InputError, match=message):
        entry(tmp_path, "b", num_bytes=300 * MEGABYTE, calls=calls)
    assert (calls, names(tmp_path)) == ([], ["a"])


def test_a_stream_makes_room_as_it_grows(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("hf_paint.data.pixel_cache.STREAM_STEP", MEGABYTE)
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "0.006")
    entry(tmp_path, "a")
    entry(tmp_path, "b", num_bytes=None)
    assert names(tmp_path) == ["b"]
    with pytest.raises(InputError, match="limited to 0.006 GB"):
        entry(tmp_path, "c", num_images=20, num_bytes=None, calls=calls)
    assert len(calls) < 10
    assert "c" not in names(tmp_path)


def test_a_split_over_the_free_disk_space_is_refused(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    calls, free = [], [MEGABYTE]
    entry(tmp_path, "a")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, free[0]))
    with pytest.raises(
        InputError,
        match=r"needs at least 0.0 GB, but only 0.0 GB are free at .*pixels. Free up space .* HF_PAINT",
    ):
        entry(tmp_path, "b", num_images=40, calls=calls)
    assert (calls, names(tmp_path)) == ([], ["a"])  # deleting the other entry would not free enough space
    free[0] = 3 * MEGABYTE
    entry(tmp_path, "b")
    assert names(tmp_path) == ["a", "b"]


def test_a_cache_that_may_only_be_read_is_read(tmp_path, monkeypatch):
    calls = []
    entry(tmp_path, "a")

    def refuse(*_, **__):
        raise PermissionError

    monkeypatch.setattr("hf_paint.data.pixel_cache.FileLock.acquire", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    entry(tmp_path, "a", calls=calls)
    assert calls == []


@pytest.mark.parametrize("value", ["", "many", "0", "-3", "nan"])
def test_bad_limits_are_refused(value, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", value)
    with pytest.raises(InputError, match=f"HF_PAINT_CACHE_LIMIT must be a positive number of GB.*got '{value}'"):
        entry(tmp_path, "a")


def test_limits_are_in_gigabytes(monkeypatch):
    assert cache_limit() == 200e9
    monkeypatch.setenv("HF_PAINT_CACHE_LIMIT", "1.5")
    assert cache_limit() == 1.5e9


def test_processes_decode_a_missing_or_damaged_entry_once(tmp_path):
    def decode():
        with (tmp_path / "decoded").open("a") as log:
            for index in range(20):
                time.sleep(0.05)
                log.write("one")
                yield np.full((3, 4, 4), index, dtype=np.uint8), index

    def read():
        for name in "ab":
            pixels, labels = open_pixels(tmp_path / "pixels" / name, decode, name=name, num_bytes=960)
            assert pixels[:, 0, 0, 0].tolist() == labels.tolist() == list(range(20))

    damaged = ((np.full((3, 4, 4), index, dtype=np.uint8), index) for index in range(20))
    open_pixels(tmp_path / "pixels" / "b", lambda: damaged, name="b", num_bytes=960)
    flip_a_bit(tmp_path / "pixels" / "b" / "pixels.bin")
    runs = [Fork(read) for _ in range(2)]
    assert [run.wait(300) for run in runs] == [(0, "")] * 2
    assert (tmp_path / "decoded").read_text() == "one" * 20 * 2


def test_cached_pixels_are_writable_copies(task, processor, tmp_path):
    cached = CachedImages(load_splits(task, ("test",))["test"], PixelTransform(processor), cache_dir=tmp_path)
    before = cached[0]["pixel_values"].clone()
    cached[0]["pixel_values"].zero_()
    assert torch.equal(cached[0]["pixel_values"], before)
