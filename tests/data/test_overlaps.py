"""Splits of a task that share rows or images."""

import shutil

import numpy as np
import pytest
import torch
import yaml
from datasets import Dataset, load_dataset

from drawn_tasks import write_task
from folders import draw_folder, draw_zip, folder_task, several
from hf_paint import InputError, Task
from hf_paint.data.digests import read_digests
from hf_paint.data.overlaps import refuse_shared_rows, warn_of_equal_images
from hf_paint.data.splits import load_splits


def kept(num_rows):
    """The train rows that remain when a tenth is held out, by PAINT's rule."""
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(0)).tolist()
    return order[: num_rows - num_rows // 10]


# splits of a data set of 80 train and 40 test rows -> the rows that two of them share
SHARED = [
    ({"validation": "train[80%:]"}, "16 of the 16 validation rows of task 'colours' are also among its 80 train rows"),
    ({"validation": "test[:50%]"}, "20 of the 40 test rows of task 'colours' are also among its 20 validation rows"),
    (
        {"train": "train+test"},
        f"{sum(row >= 80 for row in kept(120))} of the 40 test rows of task 'colours' are also among its 108 train",
    ),
    (
        {"test": "train[5:9]+test[:2]"},
        f"{sum(5 <= row < 9 for row in kept(80))} of the 6 test rows of task 'colours' are also among its 72 train",
    ),
    (
        {"train": "train[:-1]", "validation": "train[-2:]"},
        "1 of the 2 validation rows of task 'colours' are also among its 79 train rows",
    ),
]


@pytest.mark.parametrize(("splits", "expected"), SHARED, ids=str)
def test_patch_refuses_splits_that_share_rows(recipe, tasks_folder, tmp_path, capsys, splits, expected):
    definition = yaml.safe_load((tasks_folder / "colours.yaml").read_text())
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(definition | {"splits": splits}))
    assert recipe(patching_tasks=[str(tmp_path / "task.yaml")]) == 2
    assert expected in capsys.readouterr().err
    assert not (tmp_path / "run/theta_1").exists()


def test_disjoint_parts_of_a_split_are_accepted(task):
    definition = task.to_dict()
    for splits in (
        {"train": "train[:60%]", "validation": "train[60%:80%]", "test": "train[80%:]"},
        {"train": "train[:50%]+test[:10]", "validation": "train[50%:]", "test": "test[10:]"},
        {"train": "train", "validation": "auto", "test": "test"},
    ):
        loaded = load_splits(type(task).from_dict(definition | {"splits": splits}))
        refuse_shared_rows(loaded)
        rows = np.concatenate([split.row_ids for split in loaded.values()])
        assert len(set(rows.tolist())) == len(rows) == sum(len(split.rows) for split in loaded.values())


@pytest.mark.parametrize(
    "keys",
    [
        {"where": {"track": 3}},
        {"only_classes": ["red", "blue"]},
        {"class_split": {"part": 1}},
        {"group_column": "track"},
    ],
    ids=str,
)
def test_numbers_follow_the_rows(task, keys):
    stored = load_dataset("parquet", data_files=dict(task.data_files))
    images = [*stored["train"]["image"], *stored["test"]["image"]]
    for split in load_splits(type(task).from_dict(task.to_dict() | keys)).values():
        assert len(split.row_ids) == len(split.rows)
        assert all(images[number] == image for number, image in zip(split.row_ids, split.rows["image"], strict=True))


@pytest.mark.parametrize("kind", ["same path", "link", "copy", "one of two", "a pattern", "a folder"])
def test_a_file_in_two_splits_is_refused_under_any_name(recipe, task, tmp_path, capsys, kind):
    train, test, other = task.data_files["train"], task.data_files["test"], str(tmp_path / "other.parquet")
    files = {"train": train, "test": other}
    number, total = 80, 80
    if kind == "same path":
        files["test"] = train
    elif kind == "link":
        (tmp_path / "other.parquet").symlink_to(train)
    elif kind == "copy":
        shutil.copy(train, other)
    else:
        files = {
            "train": [train, test],
            "test": test if kind == "one of two" else str(tmp_path / "data/*test.parquet"),
        }
        number, total = 40, 40
    definition = task.to_dict() | {"data_files": files, "splits": {"validation": None}}
    if kind == "a folder":
        (tmp_path / "folder").mkdir()
        shutil.copy(train, tmp_path / "folder/train.parquet")
        shutil.copy(train, tmp_path / "folder/test.parquet")
        definition |= {"data_files": None, "data_dir": str(tmp_path / "folder")}
        number, total = 80, 80
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(definition))
    assert recipe(patching_tasks=[str(tmp_path / "task.yaml")], selection="none") == 2
    assert f"{number} of the {total} test rows of task 'colours' are also among its" in capsys.readouterr().err


def test_parts_of_one_file_under_two_names_are_told_apart(task):
    files = {"train": task.data_files["train"], "test": task.data_files["train"]}
    for end, number in (("50%", 0), ("75%", 20)):
        splits = {"train": f"train[:{end}]", "validation": None, "test": "test[50%:]"}
        loaded = load_splits(type(task).from_dict(task.to_dict() | {"data_files": files, "splits": splits}))
        assert len(np.intersect1d(loaded["train"].row_ids, loaded["test"].row_ids)) == number
    with pytest.raises(InputError, match="20 of the 40 test rows of task 'colours' are also among its 60 train rows"):
        refuse_shared_rows(loaded)


def test_a_supported_task_may_choose_on_its_train_split(recipe, tasks_folder, tmp_path, capsys):
    definition = yaml.safe_load((tasks_folder / "others.yaml").read_text())
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(definition | {"splits": {"validation": "train"}}))
    # the run passes this check and fails at the next one
    assert (
        recipe(supported_tasks=[str(tmp_path / "task.yaml")], transfer_tasks=[str(tasks_folder / "others.yaml")]) == 2
    )
    assert "'others' is listed twice" in capsys.readouterr().err


def test_pictures_of_a_folder_are_compared_by_file(tmp_path):
    files = several("train/cat/{}.png", 3, 0) | several("train/dog/{}.png", 3, 7) | several("test/dog/{}.png", 2, 7)
    folder = draw_folder(tmp_path / "data", files)
    task = folder_task(folder, splits={"train": "train", "validation": None, "test": "test"})
    refuse_shared_rows(load_splits(task))
    (folder / "test/cat").symlink_to(folder / "train/cat")
    with pytest.raises(InputError, match="3 of the 5 test rows .* its 6 train rows"):
        refuse_shared_rows(load_splits(task))


@pytest.mark.parametrize("stored", ["bytes", "files"])
def test_equal_images_in_other_rows_are_counted(tmp_path, caplog, monkeypatch, stored):
    if stored == "bytes":
        task = write_task(tmp_path, train=30, test=10, splits={"validation": None})
        train, test = (
            load_dataset("parquet", data_files=task.data_files[name])["train"] for name in ("train", "test")
        )
        rows = [*test.to_list()[:8], train.to_list()[4], train.to_list()[11]]
        Dataset.from_list(rows, features=test.features).to_parquet(task.data_files["test"])
    else:
        files = (
            several("train/cat/{}.png", 15, 0) | several("train/dog/{}.png", 15, 7) | several("test/cat/{}.png", 8, 3)
        )
        folder = draw_folder(tmp_path / "data", files)
        (folder / "test/dog").mkdir()
        shutil.copy(folder / "train/cat/12.png", folder / "test/dog/a.png")  # row 4: 12.png follows 11.png
        shutil.copy(folder / "train/dog/0.png", folder / "test/dog/b.png")
        task = folder_task(folder, splits={"train": "train", "validation": None, "test": "test"})
    splits = load_splits(task)
    refuse_shared_rows(splits)
    warn_of_equal_images(splits, tmp_path / "cache")
    shown = "test row 8 and train row 4; test row 9 and train row 11."
    if stored == "files":
        shown = f"'{folder}/test/dog/a.png' and '{folder}/train/cat/12.png'; '{folder}/test/dog/b.png' and"
    assert f"2 of the 10 test images of task '{task.name}' are equal to train images" in caplog.text
    assert shown in caplog.text
    caplog.clear()
    monkeypatch.setattr("hf_paint.errors._said", set())
    monkeypatch.setattr("hf_paint.data.digests._digest_images", None)  # the digests are read from the cache
    warn_of_equal_images(load_splits(task), tmp_path / "cache")
    assert "2 of the 10 test images" in caplog.text


def test_distinct_images_bring_no_warning(task, tmp_path, caplog):
    warn_of_equal_images(load_splits(task), tmp_path / "cache")
    assert caplog.text == ""


def test_digests_that_are_damaged_are_computed_again(tmp_path, task):
    split = load_splits(task)["test"]
    expected = read_digests(split, tmp_path / "cache")
    (path,) = (tmp_path / "cache/digests").iterdir()
    for content in (b"", path.read_bytes()[:40], path.read_bytes()[:-16]):
        path.write_bytes(content)
        assert np.array_equal(read_digests(split, tmp_path / "cache"), expected)
    assert np.array_equal(np.load(path), expected)


def test_images_in_archives_are_compared(tmp_path, caplog):
    pictures = several("{}.png", 4, 7)
    for split in ("train", "test"):
        draw_zip(tmp_path / f"{split}.zip", pictures)
        rows = [f"zip://{name}::{tmp_path}/{split}.zip,{number % 2}\n" for number, name in enumerate(pictures)]
        (tmp_path / f"{split}.csv").write_text("image,label\n" + "".join(rows))
    files = {split: str(tmp_path / f"{split}.csv") for split in ("train", "test")}
    keys = {"class_names": ["a", "b"], "templates": ["{}"], "splits": {"validation": None}}
    splits = load_splits(Task.from_dict({"name": "t", "dataset": "csv", "data_files": files} | keys))
    warn_of_equal_images(splits, tmp_path / "cache")
    assert "4 of the 4 test images of task 't' are equal to train images" in caplog.text
