"""Weights that stay on disk: a mapping that reads a tensor when it is asked for it."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from safetensors import safe_open
from torch import Tensor

from hf_paint.weights.headers import read_checkpoint


class LazyWeights(Mapping[str, Tensor]):
    """The weights in a folder, name -> tensor, each read anew whenever it is asked for.

    Args:
        folder: A folder with `model.safetensors`, or with shards and their index.

    Raises:
        InputError: If it is no such folder.

    Example:
        >>> LazyWeights(model_folder)["logit_scale"]
        tensor(2.6592)
    """

    def __init__(self, folder: str | Path) -> None:
        self._paths = {name: tensor.path for name, tensor in read_checkpoint(folder).tensors.items()}
        self._files = {path: safe_open(path, framework="pt") for path in {*self._paths.values()}}

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._files[self._paths[name]].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._paths)

    def __len__(self) -> int:
        return len(self._paths)
