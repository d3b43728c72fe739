"""Files and folders are complete or absent."""

import json

import pytest

from hf_paint.files import save_atomically, save_folder_atomically, write_json


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
    write_json(path, [1])
    assert json.loads(path.read_text()) == [1]


def test_a_folder_replaces_the_old_one_only_when_it_is_complete(tmp_path):
    folder = tmp_path / "theta_1"
    save_folder_atomically(folder, lambda partial: (partial / "old").write_text("old"))
    with pytest.raises(OSError, match="disk full"):
        save_folder_atomically(folder, fail)
    assert [path.name for path in folder.iterdir()] == ["old"]
    save_folder_atomically(folder, fill)
    assert [path.name for path in folder.iterdir()] == ["new"]
    assert [path.name for path in tmp_path.iterdir()] == ["theta_1"]
