"""Reading and writing at a position, with the calls of the system and without them, as on Windows."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from hf_paint import interpolate_checkpoints
from hf_paint.weights import positional
from hf_paint.weights.positional import read_at, write_at


@pytest.fixture(params=[True, False], ids=["with calls", "without calls"])
def calls(request, monkeypatch):
    monkeypatch.setattr(positional, "HAS_POSITIONAL_CALLS", request.param)
    if not request.param:
        monkeypatch.delattr(os, "preadv")
        monkeypatch.delattr(os, "pwrite")


def test_threads_read_and_write_their_own_positions(calls, tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(4000))
    with path.open("r+b", buffering=0) as file, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: write_at(file.fileno(), memoryview(bytes([i]) * 40), 40 * i), range(100)))

        def read(i):
            buffer = bytearray(40)
            return read_at(file.fileno(), memoryview(buffer), 40 * i), bytes(buffer)

        assert list(pool.map(read, range(100))) == [(40, bytes([i]) * 40) for i in range(100)]
        assert read_at(file.fileno(), memoryview(bytearray(8)), 3996) == 4
        assert read_at(file.fileno(), memoryview(bytearray(8)), 4000) == 0


def test_checkpoints_are_interpolated(calls, tmp_path):
    x_0, x_1 = (np.random.default_rng(seed).normal(size=(300, 1000)).astype(np.float32) for seed in (0, 1))
    for name, x in (("a", x_0), ("b", x_1)):
        (tmp_path / name).mkdir()
        save_file({"x": x}, tmp_path / name / "model.safetensors")
    interpolate_checkpoints(tmp_path / "a", tmp_path / "b", {0.25: tmp_path / "c"})
    np.testing.assert_allclose(load_file(tmp_path / "c/model.safetensors")["x"], 0.75 * x_0 + 0.25 * x_1, atol=1e-6)
