"""Folders of pictures: every picture is read with the right label, or a message says which are not."""

import json
import logging
import os
import shutil
from collections import Counter

import pytest

from drawn_tasks import write_task
from folders import draw_folder, draw_zip, folder_task, read_hue, several, write_yaml
from hf_paint import InputError, get_task
from hf_paint.cli.main import main
from hf_paint.data.images import decode
from hf_paint.data.overlaps import refuse_shared_rows
from hf_paint.data.splits import load_splits
from printed import printed_rows


BOTH = {"train": "train", "validation": None, "test": "test"}
PETS = several("cat/{}.png", 3, 0) | several("dog/{}.png", 5, 7)
IN_SPLITS = {f"{split}/{name}": hue for split in ("train", "test") for name, hue in PETS.items()}
METADATA = "file_name,label\n" + "".join(f"{name},{name[:3]}\n" for name in PETS)

# name -> files, keys of the task, and class -> (number of test pictures, hue)
READ = {
    "train-in-names": (
        several("passenger cat/{}.png", 2, 0)
        | several("dog/{}.png", 3, 5)
        | several("freight train/{}.png", 4, 10)
        | several("bullet train/{}.png", 5, 15),
        {},
        {"passenger cat": (2, 0), "dog": (3, 5), "freight train": (4, 10), "bullet train": (5, 15)},
    ),
    "test-in-pictures": (
        several("cat/test_{:03}.png", 2, 0) | several("cat/{}.png", 3, 0) | several("dog/train-{}.png", 4, 7),
        {},
        {"cat": (5, 0), "dog": (4, 7)},
    ),
    "splits": (IN_SPLITS | several("test/cat/more_{}.png", 2, 0), {"splits": BOTH}, {"cat": (5, 0), "dog": (5, 7)}),
    "upper-case": (
        {name.replace("train", "Train").replace("test", "TEST"): hue for name, hue in IN_SPLITS.items()},
        {"splits": BOTH},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
    "loose-names": (
        {
            name.replace("train/", "training_set/").replace("test/", "test_set/"): hue
            for name, hue in IN_SPLITS.items()
        },
        {"splits": BOTH},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
    "several-names": (
        {name.replace("test/", "Val/"): hue for name, hue in IN_SPLITS.items()}
        | several("validation/dog/{}.png", 2, 7)
        | several("test_hard/dog/{}.png", 2, 7),
        {"splits": BOTH | {"test": "validation"}},
        {"cat": (3, 0), "dog": (7, 7)},
    ),
    "mixed-names": (
        {name.replace("test/", "test_images/"): hue for name, hue in IN_SPLITS.items()},
        {"splits": BOTH},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
    "other-spellings": (
        {name.replace("test/cat", "test/Cat"): hue for name, hue in IN_SPLITS.items()},
        {"splits": BOTH},
        {"Cat": (3, 0), "dog": (5, 7)},
    ),
    "own-names": (
        {name.replace("test/", "sketches/"): hue for name, hue in IN_SPLITS.items()},
        {"splits": BOTH | {"test": "sketches"}},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
    "wrapped": (
        {f"a/b/{name}": hue for name, hue in IN_SPLITS.items()},
        {"splits": BOTH},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
    "nested": (
        several("vehicles/car/{}.png", 2, 3) | several("animals/dog/{}.png", 3, 7),
        {},
        {"car": (2, 3), "dog": (3, 7)},
    ),
    "class-called-train": (
        several("train/{}.png", 2, 3) | several("bus/{}.png", 3, 7),
        {"class_names": ["bus", "train"]},
        {"train": (2, 3), "bus": (3, 7)},
    ),
    "odd-names": (
        several("__none__/{}.png", 2, 3) | several("a[1]/b[{}].PNG", 3, 7) | several("c d/{}.png", 1, 12),
        {},
        {"__none__": (2, 3), "a[1]": (3, 7), "c d": (1, 12)},
    ),
    "slice": (PETS, {"splits": BOTH | {"train": "train[:50%]", "test": "train[50%:]"}}, {"dog": (4, 7)}),
    "metadata": (
        {f"test_{index}.png": hue for index, hue in enumerate([0, 7, 7, 0, 7])}
        | {
            "metadata.jsonl": "".join(
                json.dumps({"file_name": f"test_{i}.png", "label": "ab"[i in (1, 2)]}) + "\n" for i in range(4)
            )
        },
        {"class_names": ["a", "b"]},
        {"a": (2, 0), "b": (2, 7)},
    ),
    "metadata-of-splits": (
        {f"{split}/{index}.png": 7 * index for split in ("train", "test") for index in range(2)}
        | {"metadata.csv": "file_name,label\ntrain/0.png,a\ntrain/1.png,b\ntest/0.png,a\ntest/1.png,b\n"},
        {"class_names": ["a", "b"], "splits": BOTH},
        {"a": (1, 0), "b": (1, 7)},
    ),
    "metadata-and-folders": (
        PETS | {"metadata.csv": METADATA},
        {"class_names": ["cat", "dog"]},
        {"cat": (3, 0), "dog": (5, 7)},
    ),
}


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """The tasks of `READ`, by name."""
    folder = tmp_path_factory.mktemp("folders")
    return {
        name: folder_task(draw_folder(folder / name, files), name, **keys) for name, (files, keys, _) in READ.items()
    }


def test_evaluate_reads_every_picture(model_folder, tasks, tmp_path, capsys):
    paths = [write_yaml(task, tmp_path) for task in tasks.values()]
    assert main(["evaluate", model_folder, "--use_cpu", "--tasks", *paths]) == 0
    counts = {row[0]: int(row[2]) for row in printed_rows(capsys.readouterr().out) if row[0] in tasks}
    assert counts == {name: sum(count for count, _ in classes.values()) for name, (*_, classes) in READ.items()}


@pytest.mark.parametrize("name", READ)
def test_every_picture_has_its_label(tasks, name):
    split = load_splits(tasks[name], ("test",))["test"]
    found = [(split.class_names[label], read_hue(decode(split, row))) for row, label in enumerate(split.labels())]
    assert Counter(found) == {(label, hue): count for label, (count, hue) in READ[name][2].items()}


REFUSED = {
    "no class folders in splits": (
        {"train/0.png": 0, "test/0.png": 7},
        "in no class folders, only in 'test', 'train'",
    ),
    "no class folders": ({"0.png": 0, "1.png": 7}, "in no class folders"),
    "one class": (several("cat/{}.png", 2, 0), "are in one class folder, 'cat'"),
    "one class in each split": ({"train/cat/0.png": 0, "test/cat/1.png": 0}, "one class folder per split, 'cat'"),
    "different depths": (
        PETS | several("dog/puppies/{}.png", 2, 9),
        "8 like 'cat/0.png' and 2 deeper ones like 'dog/puppies/0.png'",
    ),
    "a picture beside the classes": (PETS | {"cover.png": 0}, "1 like 'cover.png' and 8 deeper ones like 'cat/0.png'"),
    "the same class twice": (
        {"old/cat/0.png": 0, "new/cat/0.png": 0, "new/dog/0.png": 7},
        "'new/cat', 'old/cat' of the split 'train'",
    ),
    "splits below classes": ({"cat/train/0.png": 0, "dog/test/0.png": 7}, "only in 'test', 'train'"),
    "splits below folders": (
        {f"{part}/{name}": hue for part in "ab" for name, hue in IN_SPLITS.items()},
        "contain the name of a split: 'a/test/cat'",
    ),
    "a split beside classes": (
        PETS | several("train/{}.png", 2, 9),
        "split folder 'train' and, beside it, 'cat/', 'dog/'",
    ),
    "splits or classes": ({"train 1/0.png": 0, "test 1/0.png": 7}, "'test 1', 'train 1' .* may be splits or classes"),
    "contradicting metadata": (
        PETS | {"metadata.csv": METADATA.replace("dog/2.png,dog", "dog/2.png,cat")},
        "1 of 8 rows: it labels 'dog/2.png' as 'cat'",
    ),
    "metadata without labels": (
        PETS | {"metadata.csv": "file_name,height\ncat/0.png,3\n"},
        "none that holds the labels",
    ),
    "metadata of other pictures": (
        PETS | {"metadata.csv": METADATA + "cat/9.png,cat\n"},
        r"\(1 of 9\), for instance 'cat/9.png'",
    ),
    "no pictures": ({"notes.txt": "none"}, "contains no pictures"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_told_is_refused(tmp_path, name):
    files, message = REFUSED[name]
    with pytest.raises(InputError, match=message):
        load_splits(folder_task(draw_folder(tmp_path / "data", files)), ("test",))


def test_evaluate_refuses_splits_without_classes(model_folder, tmp_path, capsys):
    files = several("train/{}.png", 3, 0) | several("test/{}.png", 4, 7)
    task = folder_task(draw_folder(tmp_path / "data", files), splits=BOTH)
    assert main(["evaluate", model_folder, "--use_cpu", "--tasks", write_yaml(task, tmp_path)]) == 2
    assert "in no class folders, only in 'test', 'train'" in capsys.readouterr().err


def test_what_is_not_read_is_said_once(tmp_path, caplog):
    others = {"notes.txt": "", "cat/1.heic": "", ".hidden": "", "bird/0.heic": ""}
    files = (
        IN_SPLITS
        | {f"train/{name}": text for name, text in others.items()}
        | {"extra/cat/0.png": 0, "test/fox/0.png": 3}
    )
    task = folder_task(draw_folder(tmp_path / "data", files), splits=BOTH)
    (tmp_path / "data/test/cat/link.png").symlink_to(tmp_path / "nowhere.png")
    with caplog.at_level(logging.INFO):
        load_splits(task)
        load_splits(task)
    [line] = [record.message for record in caplog.records if str(tmp_path) in record.message]
    assert "17 pictures (9 in test, 8 in train) of 3 classes: 'cat', 'dog', 'fox'." in line
    assert "in no split folder: 1 picture ('extra/cat/0.png')" in line
    assert "hidden or no pictures: 5 files ('test/cat/link.png', 'train/.hidden', 'train/bird/0.heic'" in line
    assert "because they contain no pictures: 1 folder ('train/bird')" in line
    assert "Without pictures in train: 1 class ('fox')" in line


def test_links_are_followed_and_loops_end(tmp_path):
    folder = draw_folder(tmp_path / "data", PETS)
    shutil.move(folder / "dog", tmp_path / "elsewhere")
    (folder / "dog").symlink_to(tmp_path / "elsewhere")
    (folder / "cat" / "loop").symlink_to(folder)
    split = load_splits(folder_task(folder), ("test",))["test"]
    assert Counter(split.class_names[label] for label in split.labels()) == {"cat": 3, "dog": 5}


def test_a_link_is_on_the_side_of_its_file_when_splits_are_drawn(tmp_path):
    draw_folder(tmp_path, PETS | several("dog/more_{}.png", 20, 7))
    for number in range(20):
        (tmp_path / "dog" / f"link_{number}.png").symlink_to(tmp_path / "dog" / f"more_{number}.png")
    splits = load_splits(get_task(str(tmp_path)))
    assert sum(len(split.rows) for split in splits.values()) == 48
    refuse_shared_rows(splits)


def test_a_name_that_is_no_text_is_named(tmp_path):
    draw_folder(tmp_path, PETS)
    (tmp_path / "cat/0.png").rename(tmp_path / os.fsdecode(b"cat/caf\xe9.png"))
    with pytest.raises(InputError, match=r"cat/caf\\xe9.png' is not UTF-8. Rename it"):
        load_splits(get_task(str(tmp_path)))


def test_an_empty_folder_is_a_class_only_if_it_is_listed(tmp_path):
    folder = draw_folder(tmp_path / "data", PETS)
    (folder / "bird").mkdir()
    for keys, expected in (({}, ("cat", "dog")), ({"class_names": ["bird", "cat", "dog"]}, ("bird", "cat", "dog"))):
        assert load_splits(folder_task(folder, **keys), ("test",))["test"].class_names == expected


@pytest.mark.parametrize("place", ["in the folder", "as the folder", "as a file", "one per split"])
def test_a_zip_is_read_as_the_folder_that_it_contains(tmp_path, place):
    files = {name.replace("cat/0.png", "cat/0.PNG"): hue for name, hue in PETS.items()} | several("fox/{}.png", 2, 13)
    (tmp_path / "data").mkdir()
    draw_zip(tmp_path / "data/pets.zip", files)
    keys = {}
    if place == "as the folder":
        keys = {"data_dir": str(tmp_path / "data/pets.zip")}
    elif place == "as a file":
        keys = {"data_dir": None, "data_files": {"train": str(tmp_path / "data/pets.zip")}}
    elif place == "one per split":
        (tmp_path / "data/pets.zip").rename(tmp_path / "data/test.zip")
        draw_zip(tmp_path / "data/train.zip", PETS)
        keys = {"splits": BOTH}
    split = load_splits(folder_task(tmp_path / "data", **keys), ("test",))["test"]
    found = Counter(
        (split.class_names[label], read_hue(decode(split, row))) for row, label in enumerate(split.labels())
    )
    assert found == {("cat", 0): 3, ("dog", 7): 5, ("fox", 13): 2}


def test_a_zip_that_changes_is_read_anew(tmp_path):
    fingerprints = set()
    for count in (2, 3):
        draw_zip(tmp_path / "pets.zip", PETS | several("fox/{}.png", count, 13))
        split = load_splits(folder_task(tmp_path / "pets.zip"), ("test",))["test"]
        assert len(split.rows) == len(PETS) + count
        fingerprints.add(split.fingerprint)
    assert len(fingerprints) == 2


def test_files_and_folders_of_each_split(tmp_path):
    draw_folder(tmp_path, IN_SPLITS)
    for train, test in (("train/**", "test/**"), ("train", "test")):
        files = {"train": str(tmp_path / train), "test": str(tmp_path / test)}
        splits = load_splits(folder_task(None, data_dir=None, data_files=files, splits=BOTH))
        assert [len(split.rows) for split in splits.values()] == [8, 8]
        assert splits["test"].class_names == ("cat", "dog")
    draw_folder(tmp_path / "flat", {"train/0.png": 0, "test/0.png": 7})
    files = {split: str(tmp_path / "flat" / split / "*.png") for split in ("train", "test")}
    with pytest.raises(InputError, match="in no class folders, only in 'test', 'train'"):
        load_splits(folder_task(None, data_dir=None, data_files=files, splits=BOTH))


def test_a_local_path_and_a_stream_read_the_same(tmp_path):
    folder = draw_folder(tmp_path / "data", READ["train-in-names"][0])
    expected = load_splits(folder_task(folder), ("test",))["test"].labels().tolist()
    path = folder_task(folder, dataset=str(folder), data_dir=None)
    assert load_splits(path, ("test",))["test"].labels().tolist() == expected
    stream = load_splits(folder_task(folder, streaming=True), ("test",))["test"]
    assert [stream.class_of(row) for row in stream.rows] == expected


def test_the_fingerprint_covers_the_split_and_the_files(tmp_path):
    draw_folder(tmp_path / "data", IN_SPLITS)
    task = folder_task(tmp_path / "data", splits=BOTH)
    before = {split.fingerprint for split in load_splits(task).values()}
    draw_folder(tmp_path / "data", {"test/cat/0.png": 9})
    after = {split.fingerprint for split in load_splits(task).values()}
    assert (len(before), len(before | after)) == (2, 3)
    shutil.copytree(tmp_path / "data", tmp_path / "moved", copy_function=shutil.copy2)
    assert {split.fingerprint for split in load_splits(folder_task(tmp_path / "moved", splits=BOTH)).values()} == after


def test_files_that_look_like_no_split_are_named(tmp_path, caplog):
    write_task(tmp_path, train=4, test=6)
    (tmp_path / "colours-train.parquet").rename(tmp_path / "colours.parquet")
    task = folder_task(tmp_path, dataset="parquet", splits=BOTH | {"train": None})
    assert len(load_splits(task)["test"].rows) == 6
    assert "Not read: 1, for instance 'colours.parquet'" in caplog.text


def test_patch_trains_on_a_folder(recipe, tmp_path):
    files = (
        several("passenger cat/{}.png", 20, 0) | several("freight train/{}.png", 20, 7) | several("dog/{}.png", 20, 13)
    )
    splits = {"train": "train[:90%]", "validation": "auto", "test": "train[90%:]"}
    task = write_yaml(folder_task(draw_folder(tmp_path / "data", files), splits=splits), tmp_path)
    assert recipe(patching_tasks=[task], alphas=[0, 1], max_steps=1, warmup_steps=0) == 0
    records = [json.loads(line) for line in (tmp_path / "run/results.jsonl").read_text().splitlines()]
    assert {(r["split"], r["total"]) for r in records if r["task"] == "folder"} == {("validation", 5), ("test", 6)}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("train[8:]", "is empty"),
        ("test", "are train. To use them, write splits: {train: train, validation: stratified, test: stratified}, dr"),
    ],
)
def test_a_split_without_pictures_is_refused(tmp_path, source, message):
    task = folder_task(
        draw_folder(tmp_path / "data", PETS), splits={"train": None, "validation": None, "test": source}
    )
    with pytest.raises(InputError, match=message):
        load_splits(task)
