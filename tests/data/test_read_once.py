"""Splits are loaded once in a run, and anew by the next one."""

import os
from pathlib import Path

import pytest

from drawn_tasks import write_task
from folders import draw_folder, several
from hf_paint import InputError, Task
from hf_paint.data.read_once import reading_once
from hf_paint.data.splits import load_splits


SPLITS = ("train", "validation", "test")


@pytest.fixture
def drawn(tmp_path):
    return write_task(tmp_path)


def test_inside_a_run_a_split_is_loaded_once(drawn):
    with reading_once():
        first = load_splits(drawn)
        again = load_splits(Task.from_dict(drawn.to_dict()))
    assert all(again[name] is split for name, split in first.items())
    assert load_splits(drawn)["test"] is not first["test"]


def test_the_next_run_sees_files_that_changed(drawn, tmp_path):
    with reading_once():
        with reading_once():
            before = load_splits(drawn)
        assert load_splits(drawn)["test"] is before["test"]
    write_task(tmp_path, seed=3)
    with reading_once():
        assert load_splits(drawn)["test"].fingerprint != before["test"].fingerprint


def test_two_tasks_and_a_split_that_failed_are_kept_apart(drawn, tmp_path):
    other = write_task(tmp_path, "others", seed=7)
    broken = Task.from_dict(drawn.to_dict() | {"label_column": "nothing"})
    with reading_once():
        assert load_splits(drawn)["test"].fingerprint != load_splits(other)["test"].fingerprint
        for _ in range(2):
            with pytest.raises(InputError, match="nothing"):
                load_splits(broken)


def test_a_run_lists_a_folder_once_whatever_it_reads_from_it(tmp_path, monkeypatch):
    folder = draw_folder(tmp_path / "pets", several("cat/{}.png", 10, 3) | several("dog/{}.png", 10, 7))
    scanned, scandir = [], os.scandir
    monkeypatch.setattr("os.scandir", lambda path: scanned.append(Path(path)) or scandir(path))
    keys = {"dataset": "imagefolder", "data_dir": str(folder), "templates": ["a {}."]}
    guessed = Task.from_dict(keys | {"name": "guessed", "guess": True, "splits": dict.fromkeys(SPLITS, "guess")})
    halves = {"train": "train[:50%]", "validation": None, "test": "train[50%:]"}
    with reading_once():
        for names in (SPLITS, ("train",), ("test",)):
            load_splits(guessed, names)
        load_splits(Task.from_dict(keys | {"name": "halves", "splits": halves}))
    assert sorted(scanned) == [folder, folder / "cat", folder / "dog"]
