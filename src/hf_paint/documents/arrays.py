"""Read arrays from .npy and .npz files. Whatever is wrong with a file is an `InputError`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError, one_line


def read_array(path: Path, *, mapped: bool = False) -> NDArray[Any]:
    """Return the array in a .npy file.

    Args:
        path: Path to the file.
        mapped: Whether to map the file into memory. A header may claim any size, so this is for untrusted files.

    Raises:
        InputError: If the file does not hold an array.
        OSError: If the file cannot be read.
    """
    try:
        found: object = np.load(path, mmap_mode="r" if mapped else None, allow_pickle=False)
        if not isinstance(found, np.ndarray):
            raise ValueError("it holds several arrays")
    except OSError:
        raise
    except Exception as error:  # numpy, zipfile, zlib, tokenize and ast have many types of errors for damaged files
        raise InputError(f"{path} is damaged ({one_line(error)})") from error
    return found


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return name -> array of a .npz file.

    Raises:
        InputError: If the file does not hold named arrays.
        OSError: If the file cannot be read.
    """
    try:
        with np.load(path, allow_pickle=False) as found:
            return dict(found)
    except OSError:
        raise
    except Exception as error:
        raise InputError(f"{path} is damaged ({one_line(error)})") from error
