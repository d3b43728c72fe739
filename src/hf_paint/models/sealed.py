"""Weights in a single file that knows what it should contain, so that damage is found when it is read."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights


SEAL = "fingerprint"
"""Metadata key that holds the fingerprint of the file's name and weights."""


def save_sealed_file(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights atomically, with their fingerprint as metadata.

    Example:
        >>> save_sealed_file(tmp_path / "head.safetensors", {"weight": torch.zeros(2)})
        >>> load_sealed_file(tmp_path / "head.safetensors")
        {'weight': tensor([0., 0.])}
    """
    save_atomically(path, partial(save_file, dict(weights), metadata={SEAL: _seal(path, weights)}))


def load_sealed_file(path: Path) -> dict[str, Tensor]:
    """Read weights and check them against their fingerprint, which files of earlier versions do not have.

    Raises:
        InputError: If the file is damaged, or is another file of this kind under this name.
    """
    try:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            seal = (file.metadata() or {}).get(SEAL)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged and cannot be read. Remove it; it is made again.") from error
    if seal not in (None, _seal(path, weights)):
        raise InputError(f"{path} is damaged: its weights are not those that were saved. Remove it; it is made again.")
    return weights


def _seal(path: Path, weights: Mapping[str, Tensor]) -> str:
    return fingerprint_values(path.name, fingerprint_weights(weights))
