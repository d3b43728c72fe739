"""Read weights from disk on demand, one tensor at a time."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from safetensors import safe_open
from torch import Tensor

from hf_paint.fingerprints import fingerprint_weights
from hf_paint.repositories import folder_of
from hf_paint.weights.compatibility import TensorLike
from hf_paint.weights.finite import finite
from hf_paint.weights.formats import check_model
from hf_paint.weights.headers import FLOATS, INTEGERS, WEIGHTS, read_checkpoint
from hf_paint.weights.layers import IMAGE_TOWER


State: TypeAlias = tuple[str, int, int, int]
"""Path, inode, size and time of modification of a weight file."""
_fingerprints: dict[tuple[State, ...], str] = {}


class TensorHeader(NamedTuple):
    """Dtype, as torch names it, and shape of a stored tensor."""

    dtype: str
    shape: tuple[int, ...]


class StoredTower(Mapping[str, Tensor]):
    """Image tower weights in a folder, as float32; each tensor is read when it is accessed.

    Args:
        folder: Folder with the safetensors of a whole CLIP model, or of its vision model only.
        frozen: Weights of the base model, name -> tensor. If the folder has a vision model without a projection, it
            was fine-tuned with the frozen projection of the base, which is then taken from here.
    """

    is_checked: bool = True

    def __init__(self, folder: str | Path, frozen: Mapping[str, Tensor] = MappingProxyType({})) -> None:
        self.folder: Path = Path(folder)
        self._stored = LazyWeights(folder)
        tensors = read_checkpoint(folder).tensors
        self._names = [n for n, tensor in tensors.items() if n.startswith(IMAGE_TOWER) and tensor.dtype in FLOATS]
        missing = [name for name in frozen if name.startswith("visual_projection.") and name not in self._names]
        self.frozen: dict[str, Tensor] = {name: frozen[name] for name in missing}
        stored = {name: TensorHeader("float32", tensors[name].shape) for name in self._names}
        self.headers: Mapping[str, TensorLike] = {**stored, **self.frozen}
        self.nbytes: int = sum(4 * tensors[n].size for n in self._names) + sum(x.nbytes for x in self.frozen.values())

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weights; this process reads them again only if their files have been modified."""
        if self.frozen:
            return fingerprint_weights(self)
        if (state := self._stored.state) not in _fingerprints:
            _fingerprints[state] = fingerprint_weights(self)
        return _fingerprints[state]

    def __getitem__(self, name: str) -> Tensor:
        return self.frozen[name] if name in self.frozen else self._stored[name].float()

    def __iter__(self) -> Iterator[str]:
        return iter([*self._names, *self.frozen])

    def __len__(self) -> int:
        return len(self._names) + len(self.frozen)


def find_tower(name_or_path: str) -> Path:
    """Return the folder of a fine-tuned model, given a folder, a Hub repository id or `id@revision`.

    Raises:
        InputError: If the model cannot be downloaded, has no safetensors, or is in another format.
    """
    check_model(name_or_path)
    folder = folder_of(name_or_path, ["config.json", *WEIGHTS])
    read_checkpoint(folder)
    return folder.resolve()


class LazyWeights(Mapping[str, Tensor]):
    """Weights in a folder, name -> tensor; a tensor is read from disk each time it is accessed.

    Args:
        folder: Folder with `model.safetensors`, or with shards and an index.

    Attributes:
        floats: Names of the floating-point tensors.
        headers: Name -> dtype and shape, which are known without reading the tensors.
        is_checked: That a tensor with NaN or inf is refused, so that nobody else needs to check.
        state: What tells these files from later ones in the same folder, without reading them.

    Raises:
        InputError: If the folder has no such files. A tensor with NaN or inf is refused when it is accessed.

    Example:
        >>> LazyWeights(model_folder)["logit_scale"]
        tensor(2.6592)
    """

    is_checked: bool = True

    def __init__(self, folder: str | Path) -> None:
        self._folder, self._known = Path(folder), set[str]()
        tensors = read_checkpoint(folder).tensors
        self.floats: list[str] = [name for name, tensor in tensors.items() if tensor.dtype in FLOATS]
        self._paths = {name: tensor.path for name, tensor in tensors.items()}
        names = FLOATS | INTEGERS
        self.headers: Mapping[str, TensorLike] = {
            n: TensorHeader(names.get(x.dtype, x.dtype), x.shape) for n, x in tensors.items()
        }
        paths = sorted({*self._paths.values()})
        # before they are opened: replaced files are no longer these
        self.state: tuple[State, ...] = tuple(map(_state, paths))
        self._files = {path: safe_open(path, framework="pt") for path in paths}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[self._paths[name]].get_tensor(name)
        if name not in self._known:
            finite(name, tensor, str(self._folder))
            self._known.add(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)


def _state(path: Path) -> State:
    status = path.stat()
    return str(path.resolve()), status.st_ino, status.st_size, status.st_mtime_ns
