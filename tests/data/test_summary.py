"""The summary of a task's data, and images that look alike."""

import io
import shutil

import numpy as np
import pytest
from datasets import ClassLabel, Dataset, Features, Image, List, load_dataset
from PIL import Image as PILImage, ImageEnhance

from drawn_tasks import write_task
from folders import draw_folder, several
from hf_paint import get_task, summarize
from hf_paint.data.near_duplicates import ROWS, find_near_duplicates
from hf_paint.data.scans import make_thumbnail
from hf_paint.data.summary import complete_task
from hf_paint.errors import inform_once, warn_once
from scenes_of_colours import draw_scenes, write_scenes


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    """Three classes, of which one is missing in a split, with equal and similar pictures."""
    counts = {"train/polka_dotted": 5, "train/striped": 4, "train/wavy": 3, "val/striped": 2, "test/wavy": 2}
    files = {path: 0 for folder, count in counts.items() for path in several(f"{folder}/{{}}.png", count, 0)}
    folder = draw_folder(tmp_path_factory.mktemp("summary"), files)
    shutil.copy(folder / "train/wavy/0.png", folder / "test/wavy/copy.png")
    shutil.copy(folder / "train/wavy/1.png", folder / "train/wavy/copy.png")
    smooth = PILImage.linear_gradient("L").rotate(30)
    smooth.resize((40, 36)).convert("RGB").save(folder / "train/striped/0.png")
    (folder / "test/striped").mkdir()
    smooth.resize((160, 144)).save(folder / "test/striped/grey.png")
    return summarize({"dataset": str(folder)})


def test_images_are_counted_by_class_and_split(summary):
    assert summary.class_names == ("polka dotted", "striped", "wavy")
    assert summary.data_names == {"polka dotted": "polka_dotted"}
    assert {name: list(split.per_class) for name, split in summary.splits.items()} == {
        "train": [5, 4, 4],
        "validation": [0, 2, 0],
        "test": [0, 1, 3],
    }
    assert summary.missing("test") == ["polka dotted"]
    assert summary.prompts[0].endswith("polka dotted.")
    assert summary.columns["image"] == "image"


def test_images_that_repeat_others_are_paired(summary):
    pairs = {(pair.first.path[-20:], pair.second.path[-17:]) for pair in summary.images.equal}
    assert {(first.rpartition("/")[2], second) for first, second in pairs} == {
        ("0.png", "est/wavy/copy.png"),
        ("1.png", "ain/wavy/copy.png"),
    }
    [similar] = summary.images.similar
    assert (similar.first.split, similar.second.split) == ("train", "test")
    assert similar.first.path.endswith("train/striped/0.png")
    assert similar.second.path.endswith("test/striped/grey.png")
    assert 0.99 <= similar.correlation < 1


def test_sizes_and_modes_are_those_of_the_files(summary):
    assert (summary.images.widths, summary.images.heights) == ((40, 40, 160), (36, 36, 144))
    assert summary.images.modes == {"RGB": 18, "L": 1}
    assert summary.images.num_small == 19


def test_what_may_go_wrong_is_said(summary):
    assert [warning.partition(".")[0] for warning in summary.warnings] == [
        "Classes without validation images: 2 of 3 ('polka dotted', 'wavy')",
        "Validation images: only 2, each of which counts 50",
        "Classes without test images: 1 of 3 ('polka dotted')",
        "Images equal to one of another split: 1",
        "Images nearly the same as one of another split: 1",
    ]


def test_an_empty_class_folder_is_named(tmp_path):
    folder = draw_folder(tmp_path, several("cat/{}.png", 8, 0) | several("dog/{}.png", 8, 8) | {"nine/a.txt": "none"})
    (folder / "ten").mkdir()
    found = summarize({"dataset": str(folder)}, images=False)
    assert "Folders without pictures, which are no classes: 2 ('nine', 'ten')." in found.warnings


def test_an_equal_image_in_another_class_is_named(tmp_path):
    files = several("cat/{}.png", 4, 0) | several("dog/{}.png", 4, 8)
    folder = draw_folder(tmp_path, files)
    for number in range(4):
        shutil.copy(folder / f"cat/{number}.png", folder / f"dog/copy_{number}.png")
    shutil.copy(folder / "cat/0.png", folder / "cat/copy.png")
    [warning] = [text for text in summarize({"dataset": str(folder)}).warnings if "two classes" in text]
    assert warning.startswith("Images in two classes: 4. Correct one of the labels: ")
    assert warning.count(".png' (cat)") == warning.count(".png' (dog)") == 3
    assert warning.endswith("; and 1 more.")


def test_an_image_that_repeats_may_have_several_classes(tmp_path):
    rows = draw_scenes(8, 0)[0] * 2
    labels = [[0]] * 8 + [[1]] * 8
    features = Features({"image": Image(), "label": List(ClassLabel(names=["red", "green"]))})
    Dataset.from_dict({"image": rows, "label": labels}, features=features).to_parquet(str(tmp_path / "scenes.parquet"))
    found = summarize({"dataset": str(tmp_path / "scenes.parquet"), "templates": ["{}"]})
    assert len(found.images.equal) == 8
    assert not any("two classes" in text for text in found.warnings)


def test_rows_in_two_splits_are_counted_without_reading_images(tmp_path):
    splits = {"train": "train[:60%]", "validation": "train[50%:]", "test": "test"}
    found = summarize(write_task(tmp_path, train=80, test=40, splits=splits), images=False)
    assert found.images is None
    assert found.shared_rows == {("train", "validation"): 8}
    assert "Rows in both train and validation: 8. A run refuses them." in found.warnings


@pytest.mark.parametrize("form", ["classes", "names", "text", "digits"])
def test_an_image_with_several_classes_counts_for_each_of_them(form, tmp_path):
    found = summarize(write_scenes(tmp_path, form=form, splits={"validation": None}), images=form == "names")
    for name, rows in (("train", draw_scenes(24, 0)[1]), ("test", draw_scenes(20, 1)[1])):
        assert list(found.splits[name].per_class) == [sum(label in own for own in rows) for label in range(4)]
        assert found.splits[name].num_images == sum(bool(own) or name == "test" for own in rows)
    assert found.columns["label"] == {"classes": "lists of 4 classes", "names": "lists of string"}.get(form, "string")


def test_the_completed_task_lists_its_classes(tmp_path):
    task = write_task(tmp_path, train=20, test=10)
    found = complete_task(summarize(task, images=False))
    assert found.class_names == ("red", "green", "blue", "grey")
    half = get_task(task.to_dict() | {"class_split": {"part": 0}})
    assert complete_task(summarize(half, images=False)) == half


def test_near_duplicates_are_those_of_the_correlation_matrix():
    generator = np.random.default_rng(0)
    first = generator.integers(256, size=(300, 4, 4), dtype=np.uint8)
    second = generator.integers(256, size=(200, 4, 4), dtype=np.uint8)
    second[3] = first[77] // 3 + 9
    first[0] = second[0] = 7  # of one colour, so without a correlation
    flat = np.concatenate([first, second]).reshape(500, 16).astype(np.float64)
    flat[[0, 300]] = generator.random((2, 16))
    matrix = np.corrcoef(flat)[:300, 300:]
    matrix[0], matrix[:, 0] = -1, -1
    expected = [(int(column.argmax()), index) for index, column in enumerate(matrix.T) if column.max() >= 0.6]
    found = find_near_duplicates(first, second, threshold=0.6)
    assert [(row, other) for row, other, _ in found] == expected
    assert (77, 3) in expected
    assert len(expected) > 20
    assert np.allclose([value for *_, value in found], [matrix[pair] for pair in expected], atol=1e-5)


def test_near_duplicates_are_found_in_every_block():
    generator = np.random.default_rng(0)
    first = generator.integers(256, size=(2 * ROWS + 5, 2, 2), dtype=np.uint8)
    first[:, 0, 0] = 0
    second = first[[0, ROWS - 1, ROWS, 2 * ROWS + 4]]
    rows = [row for row, *_ in find_near_duplicates(first, second)]
    assert all((first[row] == image).all() for row, image in zip(rows, second, strict=True))
    assert len(rows) == 4


def edited(image):
    """An image as others save it: compressed, smaller, larger, with more contrast, and in grey."""
    compressed = io.BytesIO()
    image.save(compressed, "JPEG", quality=60)
    size = (image.width // 2, image.height // 2)
    return [
        PILImage.open(compressed),
        image.resize(size),
        image.resize((2 * image.width, 2 * image.height)),
        ImageEnhance.Contrast(image).enhance(0.8),
        image.convert("L").convert("RGB"),
    ]


def test_edits_of_photos_are_found_and_other_photos_are_not(shared):
    rows = load_dataset("parquet", data_files=str(shared / "data/cifar10/test.parquet"), split="train[:300]")
    images = [image.convert("RGB") for image in rows["image"]]
    thumbnails = np.stack([make_thumbnail(image) for image in images])
    assert not find_near_duplicates(thumbnails[:150], thumbnails[150:])
    copies = [np.stack([make_thumbnail(copy) for copy in edited(image)]) for image in images[:60]]
    for kind in np.swapaxes(copies, 0, 1):
        found = {(row, other) for row, other, _ in find_near_duplicates(thumbnails, kind)}
        assert found <= {(row, row) for row in range(60)}
        assert len(found) >= 57


@pytest.mark.parametrize("rank", [None, "0", "1"])
def test_a_message_is_said_once_by_one_process(monkeypatch, caplog, rank):
    monkeypatch.delenv("RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("RANK", rank)
    with caplog.at_level("INFO"):
        for _ in range(2):
            warn_once("100 % of it")
            inform_once("all of it")
    assert [record.message for record in caplog.records] == ["100 % of it", "all of it"] * (rank != "1")
