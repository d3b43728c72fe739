"""Images that cannot be read: named before training, or skipped."""

import io
import tracemalloc

import numpy as np
import pytest
from datasets import Dataset, Features, Image, List, Value
from PIL import Image as PILImage

from damaged_images import overlapping_exif, overlapping_tiff, png_of
from folders import draw_folder, draw_picture, folder_task, several, write_yaml
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, Task
from hf_paint.data import scans
from hf_paint.data.content import fingerprint_content
from hf_paint.data.images import CachedImages, stream_rows
from hf_paint.data.scans import scan_images
from hf_paint.data.splits import load_splits
from hf_paint.data.transforms import PixelTransform
from hf_paint.data.unreadable import list_unreadable


SPLITS = {"train": "train", "validation": "val", "test": "test"}


def damage(path):
    """Cut a picture, whose header stays whole."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


@pytest.fixture
def pets(tmp_path):
    """Two classes in three splits; twelve of the training pictures and one of the others are damaged."""
    files = {
        path: hue
        for split, count in (("train", 16), ("val", 4), ("test", 4))
        for name, hue in (("cat", 0), ("dog", 7))
        for path in several(f"{split}/{name}/{{}}.png", count, hue)
    }
    folder = draw_folder(tmp_path / "pets", files)
    for index in range(12):
        damage(folder / f"train/cat/{index}.png")
    damage(folder / "test/dog/1.png")
    return folder


def pets_task(folder, **keys):
    return folder_task(folder, "pets", splits=SPLITS, **keys)


def test_all_of_them_are_named_at_once_before_training(recipe, pets, tmp_path, capsys):
    assert recipe(patching_tasks=[write_yaml(pets_task(pets), tmp_path)]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert "hf-paint: 13 images cannot be read. Image 0 of the train split of task 'pets' cannot be read (" in error
    assert sum(str(pets / f"train/cat/{index}.png") in error for index in range(12)) == 10
    advice = f"as in '{{dataset: {pets}, bad_rows: skip}}'; `hf-paint tasks` lists all of them."
    assert error.endswith(
        f"; and 3 more. Replace or remove them, or skip them with `bad_rows: skip` in the task, {advice}"
    )


def test_a_trainer_names_them_before_its_first_step(pets, model, processor, tmp_path):
    args = PaintTrainingArguments(output_dir=tmp_path / "run", max_steps=1, warmup_steps=0, use_cpu=True)
    with pytest.raises(InputError, match="12 images cannot be read"):
        PaintTrainer(model, args, train_task=pets_task(pets), processing_class=processor)


def test_damage_of_every_kind_is_found(tmp_path):
    """An image is unreadable if Pillow cannot load it."""
    files = several("cat/{}.png", 3, 0) | {"cat/words.png": "no picture", "dog/0.png": 7}
    folder = draw_folder(tmp_path / "data", files)
    (folder / "cat/empty.png").touch()
    damage(folder / "cat/0.png")
    for image_format in ("JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM"):
        path = folder / f"cat/whole.{image_format.lower()}"
        draw_picture(0.3, 1, (64, 64)).save(path, image_format)
        cut = path.with_stem("cut")
        cut.write_bytes(path.read_bytes())
        damage(cut)
    data = bytearray((folder / "cat/1.png").read_bytes())
    data[len(data) // 2] ^= 0xFF  # a wrong checksum
    (folder / "cat/wrong.png").write_bytes(data)
    split = load_splits(folder_task(folder))["test"]
    found = {image.path for image in list_unreadable(split)}
    assert found == {str(path) for path in folder.glob("cat/*") if not loads(path)}
    assert {path.rpartition("/")[2] for path in found} >= {"0.png", "words.png", "empty.png", "cut.jpeg", "wrong.png"}
    assert not [path for path in found if "whole" in path]


def loads(path):
    try:
        PILImage.open(path).load()
    except Exception:
        return False
    return True


def test_a_scan_is_kept_until_a_file_changes(pets, monkeypatch, tmp_path):
    task = pets_task(pets)
    first = scan_images(load_splits(task)["train"], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(scans, "_scan", None)
        again = scan_images(load_splits(task)["train"], tmp_path)
    assert again.problems == first.problems
    assert np.array_equal(again.thumbnails, first.thumbnails)
    assert np.delete(first.sizes, list(first.problems), axis=0).tolist() == [[40, 36]] * 20
    draw_picture(0, 0).save(pets / "train/cat/0.png")
    mended = scan_images(load_splits(task)["train"], tmp_path)
    assert set(first.problems) - set(mended.problems) == {0}
    (tmp_path / "scans").rename(tmp_path / "away")
    for path in (tmp_path / "away").glob("*.npz"):
        path.write_bytes(path.read_bytes()[:1000])
    (tmp_path / "away").rename(tmp_path / "scans")
    assert scan_images(load_splits(task)["train"], tmp_path).problems == mended.problems


def test_skipped_rows_are_as_if_they_were_not_there(pets, caplog):
    skipping = load_splits(pets_task(pets, bad_rows="skip"))
    load_splits(pets_task(pets, bad_rows="skip"))
    lines = [record.message for record in caplog.records if "are skipped" in record.message]
    assert [line.partition(" cannot")[0] for line in lines] == [
        "12 of the 32 train images of task 'pets'",
        "1 of the 8 test images of task 'pets'",
    ]
    assert f"{pets}/test/dog/1.png: " in lines[1]
    assert [len(image) for image in (skipping["train"].skipped, skipping["test"].skipped)] == [12, 1]
    refused = load_splits(pets_task(pets))
    for image in skipping["train"].skipped + skipping["test"].skipped:
        (pets / image.path).unlink()
    without = load_splits(pets_task(pets))
    for name, split in without.items():
        assert fingerprint_content(split) == fingerprint_content(skipping[name])
        assert np.array_equal(split.row_ids.argsort(), skipping[name].row_ids.argsort())
        assert (skipping[name].fingerprint == refused[name].fingerprint) == (name == "validation")


def test_a_run_that_skips_them_is_bound_to_them(recipe, pets, tmp_path, capsys):
    path = write_yaml(pets_task(pets, bad_rows="skip"), tmp_path)
    changes = {"patching_tasks": [path], "alphas": [1], "max_steps": 1, "warmup_steps": 0}
    assert recipe(**changes) == 0
    draw_picture(0, 0).save(pets / "train/cat/3.png")
    capsys.readouterr()
    assert recipe(**changes) == 2
    assert "the train split of task 'pets'" in capsys.readouterr().err


def test_a_split_in_the_pixel_cache_names_all_of_them(pets, processor, tmp_path):
    damage(pets / "test/cat/0.png")
    split = load_splits(pets_task(pets), ("test",))["test"]
    with pytest.raises(InputError, match="2 images cannot be read"):
        CachedImages(split, PixelTransform(processor), cache_dir=tmp_path)


def test_a_stream_skips_the_same_rows(pets, caplog):
    def pixels(**keys):
        split = load_splits(pets_task(pets, **keys), ("train",))["train"]
        return [row["image"].tobytes() for row in (stream_rows(split) if split.task.streaming else split.rows)]

    assert pixels(streaming=True, bad_rows="skip") == pixels(bad_rows="skip")
    assert caplog.text.count("12 of the 32 train images of task 'pets' cannot be read and are skipped") == 1
    with pytest.raises(InputError, match=f"Image 0 of the train split of task 'pets' .*{pets}/train/cat/0.png"):
        pixels(streaming=True)


def test_questions_about_skipped_images_are_skipped(tmp_path):
    buffer = io.BytesIO()
    draw_picture(0, 0).save(buffer, "PNG")
    whole = buffer.getvalue()
    rows = {
        "image": [{"bytes": data, "path": None} for data in (whole, whole[:200], whole)],
        "question": ["first?", "second?", "third?"],
        "choices": [["a", "b"], ["c", "d"], ["e", "f"]],
        "answer": ["b", "c", "e"],
    }
    texts = {"question": Value("string"), "choices": List(Value("string")), "answer": Value("string")}
    Dataset.from_dict(rows, features=Features({"image": Image(), **texts})).to_parquet(tmp_path / "rows.parquet")
    keys = {"dataset": "parquet", "data_files": {"test": str(tmp_path / "rows.parquet")}, "bad_rows": "skip"}
    splits = {"train": None, "validation": None, "test": "test"}
    task = Task.from_dict({"name": "asked", "choices_column": "choices", "splits": splits} | keys)
    split = load_splits(task)["test"]
    assert split.choices.questions == ("first?", "third?")
    assert split.choices.candidates == (("a", "b"), ("e", "f"))
    assert split.labels().tolist() == [1, 0]
    assert split.class_names == ("first? a", "first? b", "third? e", "third? f")


def hostile_pictures(folder):
    """Write pictures that claim far more than their files hold, and return their paths."""
    contents = {
        "cat/wide.png": png_of(60_000, 60_000),
        "cat/exif.png": png_of(4, 4, exif=overlapping_exif(2_000, 200_000)),
        "dog/tags.tif": overlapping_tiff(2_000, 200_000),
        "dog/wide.gif": b"GIF89a" + bytes([255] * 4) + bytes(3) + b"," + bytes(4) + bytes([255] * 4) + b"\0\2\2L\1\0;",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [str(folder / name) for name in contents]


def test_bombs_are_named_and_never_decoded(tmp_path):
    folder = draw_folder(tmp_path / "pets", several("cat/{}.png", 3, 0) | several("dog/{}.png", 3, 7))
    frames = [draw_picture(0.3, seed) for seed in range(9)]
    for name in ("moving.gif", "pages.tif", "moving.webp"):
        frames[0].save(folder / "dog" / name, save_all=True, append_images=frames[1:])
    bombs = hostile_pictures(folder)
    task = folder_task(folder, "pets", splits={"train": "train", "validation": None, "test": None}, bad_rows="skip")
    tracemalloc.start()
    [split] = load_splits(task).values()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    reasons = {image.path: image.reason for image in split.skipped}
    assert sorted(reasons) == sorted(bombs)
    assert "exceeds limit of 178956970 pixels" in reasons[bombs[0]]
    assert all("values overlap" in reasons[path] for path in bombs[1:3])
    assert len(split.rows) == 9
    assert peak < 64 << 20  # one of them would take 400 MB
