import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from drawn_tasks import CLASS_NAMES, draw_rows, write_task
from hf_paint import Task, write_questions_task
from hf_paint.data.content import fingerprint_content
from hf_paint.data.splits import load_splits
from stored_rows import brighten_one, drop_one, relabel_one, rewrite, swap_two


def contents(task):
    return {name: fingerprint_content(split) for name, split in load_splits(task).items()}


def moved(task, folder):
    """Copy the files of a task, and return a task that reads the copies."""
    folder.mkdir()
    files = {split: shutil.copy(path, folder / f"other-{split}.parquet") for split, path in task.data_files.items()}
    return Task.from_dict(task.to_dict() | {"data_files": {split: str(path) for split, path in files.items()}})


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("change", [brighten_one, relabel_one, swap_two, drop_one])
def test_any_change_of_the_rows_changes_the_content(change, streaming, tmp_path):
    task = write_task(tmp_path, streaming=streaming, splits={"validation": None})
    before = contents(task)
    rewrite(task.data_files["test"], change)
    after = contents(task)
    assert after["train"] == before["train"]
    assert after["test"] != before["test"]


@pytest.mark.parametrize("streaming", [False, True])
def test_content_is_the_same_elsewhere_and_at_another_time(streaming, tmp_path):
    task = write_task(tmp_path / "data", streaming=streaming, splits={"validation": None})
    before = contents(task)
    again = moved(task, tmp_path / "moved")
    assert load_splits(again)["test"].fingerprint != load_splits(task)["test"].fingerprint
    assert contents(again) == before
    for path in task.data_files.values():
        Path(path).touch()
    assert contents(task) == before


def test_classes_and_prompts_belong_to_the_content(tmp_path):
    task = write_task(tmp_path)
    found = [
        contents(Task.from_dict(task.to_dict() | keys))["test"]
        for keys in (
            {},
            {"templates": ["one {}"]},
            {"class_names": ["crimson", *CLASS_NAMES[1:]], "label_names": list(CLASS_NAMES)},
            {"class_names": [*reversed(CLASS_NAMES)]},
            {"corruption": {"name": "noise", "severity": 2}},
            {"attack": {}},
        )
    ]
    assert len(set(found)) == len(found)


def test_types_of_answers_belong_to_the_content(tmp_path):
    """Accuracies are recorded for each of them."""
    task = write_questions_task(tmp_path, sizes={"train": 2, "validation": 2, "test": 2})
    before = contents(task)
    rewrite(task.data_files["test"], lambda columns: columns["answer_type"].__setitem__(0, "another"))
    after = contents(task)
    assert after["train"] == before["train"]
    assert after["test"] != before["test"]


def test_image_files_are_read(tmp_path):
    """The rows of an image folder hold only paths."""
    rows = draw_rows(8, 0)
    for split in ("train", "test"):
        for index, (image, label) in enumerate(zip(rows["image"], rows["label"], strict=True)):
            path = tmp_path / "data" / split / CLASS_NAMES[label] / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)
    keys = {"name": "files", "dataset": "imagefolder", "templates": ["{}"], "splits": {"validation": None}}
    task = Task.from_dict(keys | {"data_dir": str(tmp_path / "data")})
    before = contents(task)
    shutil.copytree(tmp_path / "data", tmp_path / "moved")
    assert contents(Task.from_dict(keys | {"data_dir": str(tmp_path / "moved")})) == before
    changed = sorted((tmp_path / "moved/test").rglob("*.png"))[0]
    pixels = np.array(Image.open(changed))
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(changed)
    after = contents(Task.from_dict(keys | {"data_dir": str(tmp_path / "moved")}))
    assert after["train"] == before["train"]
    assert after["test"] != before["test"]


def write_files(folder, kind):
    """Write images of one size in bytes to files, and return the task that streams them and a function to change one.

    The data set is a table of paths, a folder, or a zip file.
    """
    rows = draw_rows(8, 0)
    paths = [folder / "images/valid" / CLASS_NAMES[label] / f"{i}.bmp" for i, label in enumerate(rows["label"])]
    for image, path in zip(rows["image"], paths, strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path)
    table, archive = folder / "table.csv", folder / "images.zip"
    table.write_text("image,label\n" + "".join(f"{path},{path.parent.name}\n" for path in paths))

    def pack():
        with zipfile.ZipFile(archive, "w") as file:
            for path in paths:
                file.write(path, path.relative_to(folder))

    def change():
        Image.fromarray(255 - np.array(Image.open(paths[-1]))).save(paths[-1])
        pack()

    pack()
    sources = {
        "table": {"dataset": "csv", "data_files": {"valid": str(table)}, "class_names": list(CLASS_NAMES)},
        "folder": {"dataset": "imagefolder", "data_dir": str(folder / "images")},
        "zip": {"dataset": "imagefolder", "data_dir": str(archive)},
    }
    keys = {"name": "files", "templates": ["{}"], "splits": {"train": None, "validation": None, "test": "valid"}}
    return Task.from_dict(keys | {"streaming": True} | sources[kind]), change


@pytest.mark.parametrize("kind", ["table", "folder", "zip"])
def test_image_files_of_a_stream_are_read(kind, tmp_path):
    task, change = write_files(tmp_path / "data", kind)
    before = contents(task)
    if kind != "table":  # which lists absolute paths
        assert contents(write_files(tmp_path / "moved", kind)[0]) == before
    change()
    assert contents(task) != before
