"""Files and folders are complete or absent."""

import json

import pytest

from hf_paint.files import save_atomically, save_folder_atomically, save_together, write_json


def fill(folder):
    (folder / "new").write_text("new")


def fail(path):
    if path.is_dir():
        fill(path)
    else:
        path.write_text("half")
    raise OSError("disk full")


def test_a_file_replaces_the_old_one_only_when_it_is_complete(tmp_path):
    path = tmp_path / "a" / "curve.json"
    write_json(path, {"name": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "name": "é"\n}\n'
    with pytest.raises(OSError, match="disk full"):
        save_atomically(path, fail)
    assert json.loads(path.read_text(encoding="utf-8")) == {"name": "é"}
    assert names(tmp_path / "a") == ["curve.json"]
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]


def test_a_folder_replaces_the_old_one_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "theta_1"
    save_folder_atomically(folder, lambda partial: (partial / "old").write_text("old"))
    with pytest.raises(OSError, match="disk full"):
        save_folder_atomically(folder, fail)
    assert [path.name for path in folder.iterdir()] == ["old"]
    assert names(tmp_path) == ["theta_1"]
    save_folder_atomically(folder, fill)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["theta_1"]


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_together_and_replace_older_ones(tmp_path):
    for name in ("model-1.bin", "model-2.bin", "notes.txt"):
        (tmp_path / name).write_text("old")
    with save_together(tmp_path, replaces=["model*.bin"]) as partial:
        partial("model.bin").write_text("new")
        partial("config.json").write_text("new")
        assert not {"model.bin", "config.json"} & set(names(tmp_path))
    assert names(tmp_path) == ["config.json", "model.bin", "notes.txt"]
    assert (tmp_path / "model.bin").read_text() == "new"


def test_a_failure_leaves_the_older_files(tmp_path):
    (tmp_path / "model.bin").write_text("old")
    with pytest.raises(KeyboardInterrupt), save_together(tmp_path, replaces=["model*"]) as partial:
        partial("model.bin").write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["model.bin"]
    assert (tmp_path / "model.bin").read_text() == "old"
