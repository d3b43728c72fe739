"""Stored image towers, which are read while others may write."""

from pathlib import Path
from shutil import copytree

from safetensors.torch import load_file, save_file

from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.stored import StoredTower


def test_a_fingerprint_is_that_of_the_weights_that_were_opened(model_folder, tmp_path):
    folder = Path(copytree(model_folder, tmp_path / "model"))
    file = folder / "model.safetensors"
    tower = StoredTower(folder)
    weights = {name: x + 1 if x.is_floating_point() else x for name, x in load_file(file).items()}
    save_atomically(file, lambda path: save_file(weights, path, metadata={"format": "pt"}))
    for found in (tower, StoredTower(folder), tower):
        assert found.fingerprint == fingerprint_weights(dict(found))
    assert tower.fingerprint != StoredTower(folder).fingerprint
