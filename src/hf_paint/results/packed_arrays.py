"""Arrays of integers as JSON: compact, and quick to read one by one."""

import base64
import zlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hf_paint.files import Json


Integers: TypeAlias = NDArray[np.integer[Any]]


def pack(arrays: Mapping[str, Integers]) -> Json:
    """Return named arrays of integers as JSON values: dtype, shape, and deflated data in base64 for each.

    Each array is stored in the smallest dtype that holds its values.

    Example:
        >>> unpack(pack({"counts": np.array([3, 500])}))
        {'counts': array([  3, 500])}
    """
    return {name: _pack(_smallest(array)) for name, array in arrays.items()}


def unpack(arrays: Json) -> dict[str, NDArray[np.int64]]:
    """Return the arrays of the values from `pack`."""
    return {name: _unpack(*stored).astype(np.int64) for name, stored in arrays.items()}


def _pack(array: Integers) -> tuple[str, list[int], str]:
    array = array.astype(array.dtype.newbyteorder("<"))
    return array.dtype.str, list(array.shape), base64.b64encode(zlib.compress(array.tobytes())).decode("ascii")


def _unpack(dtype: str, shape: list[int], data: str) -> Integers:
    array: Integers = np.frombuffer(zlib.decompress(base64.b64decode(data)), dtype).reshape(shape)
    return array


def _smallest(array: Integers) -> Integers:
    ends = (np.min_scalar_type(int(end)) for end in (array.min(initial=0), array.max(initial=0)))
    return array.astype(np.result_type(*ends))
