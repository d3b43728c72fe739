"""Files of arrays: what is whole is read, and any damage is one error."""

import struct

import numpy as np
import pytest

from hf_paint.documents.arrays import read_array, read_arrays
from hf_paint.errors import InputError
from hf_paint.results.packed_arrays import unpack


def npy(header):
    """A file in numpy's format, with any text as its header."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()


DAMAGED = {
    "no header": b"\x93NUMPY",
    "text": b"not an array",
    "nothing": b"",
    "a type that Python cannot parse": npy("{'descr': '(,)f4,i4', 'fortran_order': False, 'shape': (1,)}\n"),
    "a header that Python cannot parse": npy("{'descr': '<f4', \n"),
    "too little": npy("{'descr': '<f4', 'fortran_order': False, 'shape': (9,)}\n"),
    "objects": npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n") + b"\x80\x04N.",
    "an archive": b"PK\x03\x04" + bytes(40),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("read", [read_array, lambda path: read_array(path, mapped=True), read_arrays])
def test_damage_is_one_error_with_the_file(tmp_path, content, read):
    path = tmp_path / "a.npy"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.npy is damaged \(.*\)$"):
        read(path)


def test_whole_files_are_read(tmp_path):
    array = np.arange(6).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    np.savez(tmp_path / "a.npz", array=array, other=array[0])
    assert (read_array(tmp_path / "a.npy", mapped=True) == array).all()
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == ["array", "other"]
    assert (found["other"] == [0, 1, 2]).all()
    with pytest.raises(InputError, match="several arrays"):
        read_array(tmp_path / "a.npz")
    with pytest.raises(InputError, match="is damaged"):
        read_arrays(tmp_path / "a.npy")


def test_packed_arrays_have_the_types_that_are_written():
    with pytest.raises(ValueError, match="instead of integers"):
        unpack({"counts": ("(,)i4,i4", [1], "")})
