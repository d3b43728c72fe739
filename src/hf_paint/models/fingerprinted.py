"""Weights in a single file with their fingerprint, so that damage is found when the file is read."""

import logging
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights


logger: logging.Logger = logging.getLogger(__name__)
KEY = "fingerprint"
"""Metadata key that holds the fingerprint of the file's name and weights."""


def save_fingerprinted(path: Path, weights: Mapping[str, Tensor]) -> None:
    """Write weights atomically, with their fingerprint as metadata.

    Example:
        >>> save_fingerprinted(tmp_path / "head.safetensors", {"weight": torch.zeros(2)})
        >>> load_fingerprinted(tmp_path / "head.safetensors")
        {'weight': tensor([0., 0.])}
    """
    save_atomically(path, partial(save_file, dict(weights), metadata={KEY: _fingerprint(path, weights)}))


class FingerprintedFile(Mapping[str, Tensor]):
    """Weights in a file, name -> tensor, which are checked once against their fingerprint and read on demand.

    Files of earlier versions have no fingerprint.

    Args:
        path: Path to the file.

    Raises:
        InputError: If the file is damaged, or is another file of this kind under this name.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._file = safe_open(path, "pt")
            self._names = [*self._file.keys()]
            stored = (self._file.metadata() or {}).get(KEY)
            as_saved = stored in (None, _fingerprint(path, self))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is damaged and cannot be read. Remove it; it is made again.") from error
        if not as_saved:
            raise InputError(
                f"{path} is damaged: its weights are not those that were saved. Remove it; it is made again."
            )

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def load_fingerprinted(path: Path) -> dict[str, Tensor]:
    """Read all weights of a file into memory, after checking them (see `FingerprintedFile`)."""
    return dict(FingerprintedFile(path))


def is_whole(path: Path) -> bool:
    """Return whether a file can be read as it was saved; if not, say that it is made again."""
    try:
        FingerprintedFile(path)
    except InputError:
        logger.warning(f"{path} is damaged, so it is made again.")
        return False
    return True


def _fingerprint(path: Path, weights: Mapping[str, Tensor]) -> str:
    return fingerprint_values(path.name, fingerprint_weights(weights))
