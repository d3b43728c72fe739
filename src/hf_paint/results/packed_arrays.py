"""Arrays of integers as text: compact, and readable by numpy alone."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def pack(arrays: Mapping[str, NDArray[np.integer[Any]]]) -> str:
    """Return named arrays of integers as a base64 `.npz` file, each in the smallest dtype that holds its values.

    Example:
        >>> unpack(pack({"counts": np.array([3, 500])}))
        {'counts': array([  3, 500])}
    """
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **{name: _smallest(array) for name, array in arrays.items()})
    return base64.b64encode(file.getvalue()).decode("ascii")


def unpack(text: str) -> dict[str, NDArray[np.int64]]:
    """Return the arrays of a text from `pack`."""
    with np.load(io.BytesIO(base64.b64decode(text))) as arrays:
        return {name: arrays[name].astype(np.int64) for name in arrays}


def _smallest(array: NDArray[np.integer[Any]]) -> NDArray[np.integer[Any]]:
    ends = (np.min_scalar_type(int(end)) for end in (array.min(initial=0), array.max(initial=0)))
    return array.astype(np.result_type(*ends))
