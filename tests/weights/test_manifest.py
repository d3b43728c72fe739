"""A folder knows whether its files are those that were saved."""

import shutil

import pytest

from damaging import DAMAGES
from hf_paint import InputError
from hf_paint.models.loading import load_clip
from hf_paint.weights.headers import read_checkpoint
from hf_paint.weights.manifest import MANIFEST, check_whole, damages, save_folder_sealed, save_sealed, seal


@pytest.fixture
def folder(tmp_path):
    def save(partial):
        (partial / "model.safetensors").write_bytes(bytes(range(256)))
        (partial / "deep").mkdir()
        (partial / "deep" / "state.pt").write_bytes(b"state")
        (partial / "README.md").write_text("a card")

    save_folder_sealed(tmp_path / "model", save)
    return tmp_path / "model"


@pytest.mark.parametrize("name", ["model.safetensors", "deep/state.pt"])
@pytest.mark.parametrize("how", DAMAGES)
def test_every_damage_is_found(folder, name, how):
    check_whole(folder)
    DAMAGES[how](folder / name)
    with pytest.raises(InputError, match=name) as refusal:
        check_whole(folder)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_manifest(folder, how):
    DAMAGES[how](folder / MANIFEST)
    assert (not list(damages(folder))) == (how == "removed")  # as in a folder of an earlier version


def test_a_card_may_be_edited_and_files_added(folder):
    (folder / "README.md").write_text("an edited card")
    (folder / "notes.txt").write_text("notes")
    check_whole(folder)


def test_files_saved_together(tmp_path):
    for content in (b"first", b"second"):
        with save_sealed(tmp_path, replaces=["*.json"]) as partial:
            partial("patch.safetensors").write_bytes(content)
            partial("config.json").write_text("{}")
        check_whole(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"patch.safetensors", "config.json", MANIFEST}
    DAMAGES["one bit flipped"](tmp_path / "config.json")
    assert [damage.name for damage in damages(tmp_path)] == ["config.json"]


def test_models_are_checked_when_they_are_read(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "model")
    seal(folder)
    read_checkpoint(folder)
    DAMAGES["one bit flipped"](folder / "model.safetensors")
    for read in (read_checkpoint, load_clip):
        with pytest.raises(InputError, match=r"model\.safetensors has other bytes"):
            read(folder)
