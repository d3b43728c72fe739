"""Files that are complete or absent."""

import pytest

from hf_paint.files import save_together


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_appear_together_and_replace_older_ones(tmp_path):
    for name in ("model-1.bin", "model-2.bin", "notes.txt"):
        (tmp_path / name).write_text("old")
    with save_together(tmp_path, replaces=["model*.bin"]) as partial:
        partial("model.bin").write_text("new")
        partial("config.json").write_text("new")
        assert {"model-1.bin", "model.bin.partial", "config.json.partial"} <= set(names(tmp_path))
    assert names(tmp_path) == ["config.json", "model.bin", "notes.txt"]
    assert (tmp_path / "model.bin").read_text() == "new"


def test_a_failure_leaves_the_older_files(tmp_path):
    (tmp_path / "model.bin").write_text("old")
    with pytest.raises(KeyboardInterrupt), save_together(tmp_path, replaces=["model*"]) as partial:
        partial("model.bin").write_text("new")
        raise KeyboardInterrupt
    assert names(tmp_path) == ["model.bin"]
    assert (tmp_path / "model.bin").read_text() == "old"
