"""Read tensor names, dtypes, shapes and offsets from safetensors headers, without reading any tensors."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hf_paint.documents.reading import Json, parse_json, read_json
from hf_paint.errors import InputError, one_line
from hf_paint.weights.formats import check_not_a_file, refuse_other_format
from hf_paint.weights.manifest import check_whole


SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
"""Glob patterns for the weight files of a model."""
SHARD = re.compile(r"[\w. -]{1,200}\.safetensors", re.ASCII)
"""Names of the files of sharded weights."""
HEAD = "head.safetensors"
"""File for the classification head, which is stored separately because transformers would not load it."""
HEAD_WEIGHT = "head.weight"
FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
INTEGERS = {"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"}
"""Dtypes that can be interpolated: name in safetensors headers -> name in torch."""

MAX_HEADER = 100_000_000
"""Longest header in bytes, as in safetensors itself: a file may claim any length."""
ITEM_SIZES = {"BOOL": 1, "U8": 1, "I8": 1, "U16": 2, "I16": 2, "U32": 4, "I32": 4, "U64": 8, "I64": 8}
ITEM_SIZES |= {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Location of a tensor in a safetensors file.

    Attributes:
        path: Path to the file.
        dtype: Dtype name as in the header, e.g. `F32`.
        shape: Shape of the tensor.
        offset: Position of the tensor's first byte in the file.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class WeightFile:
    """Safetensors file with its tensors, in the order they are stored, and its `__metadata__`."""

    path: Path
    tensors: dict[str, StoredTensor]
    metadata: dict[str, str] | None

    def stored_at(self, path: Path, dtype: str | None = None) -> tuple[bytes, "WeightFile"]:
        """Lay out the same tensors in another file, converting floating-point tensors to `dtype` if given.

        Returns:
            The first bytes of the file (header size and header), and a description of the new file.
        """
        header: dict[str, object] = {} if self.metadata is None else {"__metadata__": self.metadata}
        end = 0
        for name, tensor in self.tensors.items():
            code = dtype if dtype and tensor.dtype in FLOATS else tensor.dtype
            begin, end = end, end + tensor.size * ITEM_SIZES[code]
            header[name] = {"dtype": code, "shape": list(tensor.shape), "data_offsets": [begin, end]}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(8, "little") + text, _parse(path, header, 8 + len(text))


@dataclass(frozen=True)
class Checkpoint:
    """Model weights in a folder: a single file, or shards with an index, plus the classification head if any."""

    folder: Path
    files: list[WeightFile]
    index: dict[str, Any] | None

    @cached_property
    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors by name."""
        return {name: tensor for file in self.files for name, tensor in file.tensors.items()}

    def is_stored_in(self, dtype: str | None) -> bool:
        """Return whether all floating-point tensors have this dtype. None matches any dtype."""
        return dtype is None or {tensor.dtype for tensor in self.tensors.values()} & FLOATS.keys() <= {dtype}

    @property
    def paths(self) -> list[Path]:
        """Paths of the weight files, then of the index if there is one."""
        return [*(file.path for file in self.files), *([] if self.index is None else [self.folder / INDEX])]


def read_checkpoint(folder: str | Path) -> Checkpoint:
    """Read the headers of all weight files in a folder, after checking the folder's files against its manifest.

    Args:
        folder: Folder with `model.safetensors`, or with shards and `model.safetensors.index.json`. The tensors in
            `head.safetensors`, if present, are included.

    Raises:
        InputError: If the folder contains no such files, or a file is damaged.

    Example:
        >>> read_checkpoint(model_folder).tensors["logit_scale"].dtype
        'F32'
    """
    path = Path(folder)
    check_not_a_file(path)
    if not path.is_dir():
        raise InputError(f"'{folder}' is not a folder. To download a model, run: hf download ID --local-dir DIR")
    check_whole(path)
    head = [read_weight_file(path / HEAD)] if (path / HEAD).exists() else []
    if (path / SINGLE).exists():
        return Checkpoint(path, [*head, read_weight_file(path / SINGLE)], None)
    if (path / INDEX).exists():
        return _read_sharded(path, head)
    refuse_other_format(path)
    raise InputError(
        f"'{folder}' has no safetensors files, and hf_paint reads no other format. To convert the model, run "
        f"AutoModel.from_pretrained('{folder}', use_safetensors=False).save_pretrained('converted') in Python, "
        "then copy the tokenizer and processor files to the new folder."
    )


def read_index(path: Path) -> tuple[Json, list[str]]:
    """Read the index of sharded weights: its contents, and the names of the shards, all in its own folder.

    Raises:
        InputError: If it is damaged, or names a file elsewhere.
    """
    try:
        index: Json = read_json(path, limit=MAX_HEADER) or {}
        shards = sorted(set(index["weight_map"].values()))
        if any(not SHARD.fullmatch(shard) for shard in shards):
            raise ValueError("a shard is in another folder, or is no safetensors file")
        if not isinstance(index.get("metadata") or {}, dict):
            raise ValueError("its `metadata` is no mapping")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a valid safetensors index: {one_line(error)}") from error
    return index, shards


def _read_sharded(folder: Path, head: list[WeightFile]) -> Checkpoint:
    path = folder / INDEX
    index, shards = read_index(path)
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise InputError(
            f"{path} lists '{missing[0]}', which does not exist ({len(missing)} of {len(shards)} missing)."
        )
    files = [read_weight_file(folder / shard) for shard in shards]
    places = sorted((name, file.path.name) for file in files for name in file.tensors)
    if places != sorted(index["weight_map"].items()):
        raise InputError(f"{path} does not list the same tensors as the files it refers to.")
    return Checkpoint(folder, [*head, *files], index)


def read_weight_file(path: Path) -> WeightFile:
    """Read the header of a safetensors file.

    Raises:
        InputError: If the file is not whole.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 8 <= 8 + length <= size:
            raise InputError(f"{path} is not a complete safetensors file: its header is truncated.")
        if length > MAX_HEADER:
            raise InputError(
                f"{path} is not a safetensors file: its header has {length} bytes, and the format allows {MAX_HEADER}."
            )
        text = file.read(length)
    try:
        header = parse_json(text, "it", limit=MAX_HEADER)
        if not isinstance(header, dict):
            raise ValueError("it is no JSON object")
        parsed = _parse(path, header, 8 + length)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is not a safetensors file: unreadable header ({one_line(error)}).") from error
    _check_offsets(parsed, 8 + length, size)
    return parsed


def _parse(path: Path, header: Mapping[str, Any], start: int) -> WeightFile:
    tensors = {}
    for name, entry in sorted(
        ((name, entry) for name, entry in header.items() if name != "__metadata__"),
        key=lambda item: item[1]["data_offsets"],
    ):
        begin, end = entry["data_offsets"]
        if (type(begin), type(end)) != (int, int):
            raise ValueError(f"the offsets of '{name}' are {begin} and {end}, expected whole numbers")
        tensor = StoredTensor(path, entry["dtype"], tuple(entry["shape"]), start + begin)
        if tensor.dtype not in ITEM_SIZES:
            raise ValueError(f"'{name}' has the dtype {tensor.dtype}, expected one of {', '.join(ITEM_SIZES)}")
        if any(type(length) is not int or length < 0 for length in tensor.shape) or end - begin != tensor.nbytes:
            raise ValueError(f"'{name}' needs {tensor.nbytes} bytes, but has {end - begin}")
        tensors[name] = tensor
    metadata = header.get("__metadata__")
    if metadata is not None and not all(isinstance(text, str) for text in metadata.values()):
        raise ValueError("its `__metadata__` holds something other than texts")
    return WeightFile(path, tensors, metadata)


def _check_offsets(file: WeightFile, start: int, size: int) -> None:
    for name, tensor in file.tensors.items():
        if tensor.offset != start:
            raise InputError(
                f"{file.path} is not a safetensors file: '{name}' overlaps another tensor or follows a gap."
            )
        start += tensor.nbytes
    if start != size:
        raise InputError(
            f"{file.path} is not a complete safetensors file: it has {size} bytes, but its header requires {start}."
        )
