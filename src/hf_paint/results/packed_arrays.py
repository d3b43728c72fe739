"""Arrays of integers as JSON: compact, and quick to read one by one."""

import base64
import math
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hf_paint.documents.reading import Json


Integers: TypeAlias = NDArray[np.integer[Any]]
PackedArray: TypeAlias = tuple[str, list[int], str]
"""Dtype, shape, and deflated data in base64."""
MOST_NUMBERS = 2**24
"""Largest array that is unpacked: a few kilobytes of deflated zeros may claim any size."""

_DTYPES = frozenset(np.dtype(kind).newbyteorder("<").str for kind in np.typecodes["AllInteger"])


def pack(arrays: Mapping[str, Integers]) -> Json:
    """Return named arrays of integers as JSON values: dtype, shape, and deflated data in base64 for each.

    Each array is stored in the smallest dtype that holds its values.

    Example:
        >>> unpack(pack({"counts": np.array([3, 500])}))
        {'counts': array([  3, 500])}
    """
    return {name: _pack(_smallest(array)) for name, array in arrays.items()}


def unpack(arrays: Mapping[str, PackedArray]) -> dict[str, NDArray[np.int64]]:
    """Return the arrays of the values from `pack`.

    Raises:
        ValueError: If the data are damaged, are not those of an array with this dtype and shape, or are too many.
    """
    return {name: _unpack(*stored).astype(np.int64) for name, stored in arrays.items()}


def _pack(array: Integers) -> PackedArray:
    array = array.astype(array.dtype.newbyteorder("<"))
    return array.dtype.str, list(array.shape), base64.b64encode(zlib.compress(array.tobytes())).decode("ascii")


def _unpack(dtype: str, shape: list[int], data: str) -> Integers:
    if dtype not in _DTYPES:  # numpy may take any text apart
        raise ValueError(f"an array of type {dtype!r} instead of integers")
    kind, number = np.dtype(dtype), math.prod(shape)
    if not 0 <= number <= MOST_NUMBERS:
        raise ValueError(f"an array of {number} numbers; at most {MOST_NUMBERS} are read")
    size = number * kind.itemsize
    try:
        content = zlib.decompressobj().decompress(base64.b64decode(data), size + 1)
    except zlib.error as error:
        raise ValueError(f"data that cannot be inflated ({error})") from error
    if len(content) != size:
        raise ValueError(f"data that are not the {size} bytes of an array of shape {shape}")
    array: Integers = np.frombuffer(content, kind).reshape(shape)
    return array


def _smallest(array: Integers) -> Integers:
    ends = (np.min_scalar_type(int(end)) for end in (array.min(initial=0), array.max(initial=0)))
    return array.astype(np.result_type(*ends))
