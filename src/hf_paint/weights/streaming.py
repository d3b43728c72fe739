"""Combine tensors from file to file: `x_0 + sum_i alpha_i * (x_i - x_0)`, a few megabytes at a time."""

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import reduce
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hf_paint.errors import InputError
from hf_paint.weights.finite import not_finite, overflow
from hf_paint.weights.headers import FLOATS, ITEM_SIZES, StoredTensor
from hf_paint.weights.positional import read_at, write_at


CHUNK = 1 << 18
"""Number of elements per chunk: large enough for efficient disk access, small enough to fit in the CPU caches."""

THREADS = min(4, os.cpu_count() or 1)

_NUMPY = {"BOOL": "?", "BF16": "<u2", "F16": "<f2", "F32": "<f4", "F64": "<f8"}
_NUMPY |= {f"{kind}{8 * size}": f"<{kind.lower()}{size}" for kind in "IU" for size in (1, 2, 4, 8)}

Tensors = Mapping[str, StoredTensor]
Array = NDArray[Any]


def stream(thetas: Sequence[Tensors], outputs: Sequence[tuple[Sequence[float], Tensors]]) -> Iterator[int]:
    """Write combinations of models, reading each chunk of the inputs only once for all outputs.

    The results are bit-identical to those from `hf_paint.combine`. The inputs may have different dtypes: computations
    use float64 if any input is float64, and float32 otherwise, and each result is rounded once to the dtype of the
    output.

    Args:
        thetas: theta_0, followed by the fine-tuned models. Names, shapes and integer tensors must be equal in all.
        outputs: For each output, the coefficients of the fine-tuned models and the location of each tensor. The output
            files must already exist at full length.

    Yields:
        Number of bytes written for each chunk.

    Raises:
        InputError: If an input holds NaN or inf, or a result is too large for its dtype.
    """
    if not outputs:
        return
    sides = [*thetas, *(tensors for _, tensors in outputs)]
    alphas = [alphas for alphas, _ in outputs]
    pieces = [
        (name, [side[name] for side in sides], begin)
        for name, tensor in sorted(thetas[0].items(), key=lambda item: (item[1].path, item[1].offset))
        for begin in range(0, tensor.size, CHUNK)
    ]
    with ExitStack() as stack:
        files = {
            path: stack.enter_context(path.open("r+b" if side >= len(thetas) else "rb", buffering=0)).fileno()
            for side, tensors in enumerate(sides)
            for path in {tensor.path for tensor in tensors.values()}
        }
        pool = stack.enter_context(ThreadPoolExecutor(THREADS))
        yield from pool.map(_work, pieces, repeat(alphas), repeat(files))


def singled_out(alphas: Sequence[float]) -> int | None:
    """Return the index of the only model that the coefficients select (0 for theta_0), or None if they mix models."""
    parts = [i for i, alpha in enumerate(alphas, start=1) if alpha]
    if not parts:
        return 0
    return parts[0] if len(parts) == 1 and alphas[parts[0] - 1] == 1 else None


def equal(tensor: StoredTensor, other: StoredTensor) -> bool:
    """Return whether two tensors of the same dtype and shape have the same bytes."""
    with tensor.path.open("rb") as file, other.path.open("rb") as other_file:
        return all(
            np.array_equal(_read(file.fileno(), tensor, begin), _read(other_file.fileno(), other, begin))
            for begin in range(0, tensor.size, CHUNK)
        )


def read_together(tensors: Sequence[StoredTensor]) -> Iterator[Array]:
    """Yield chunks of tensors that have the same shape, as float64 arrays of shape (len(tensors), at most CHUNK)."""
    with ExitStack() as stack:
        files = [stack.enter_context(tensor.path.open("rb", buffering=0)).fileno() for tensor in tensors]
        for begin in range(0, tensors[0].size, CHUNK):
            values = np.empty((len(tensors), min(CHUNK, tensors[0].size - begin)))
            for row, file, tensor in zip(values, files, tensors, strict=True):
                row[:] = _widened(_read(file, tensor, begin), tensor.dtype)
            yield values


def check_values(tensors: Tensors) -> None:
    """Check that stored tensors hold neither NaN nor inf, reading each of them once.

    Raises:
        InputError: If one does.
    """
    for name, tensor in tensors.items():
        with tensor.path.open("rb", buffering=0) as file:
            for begin in range(0, tensor.size, CHUNK):
                _check(name, tensor, _read(file.fileno(), tensor, begin))


def _check(name: str, tensor: StoredTensor, values: Array) -> None:
    if not _is_finite(values, tensor.dtype):
        raise not_finite(name, str(tensor.path))


def _is_finite(values: Array, dtype: str) -> bool:
    """Return whether stored numbers are neither NaN nor inf; the sum of squares tells unless it overflows."""
    wide = _widened(values, dtype)
    if wide.dtype.kind != "f":
        return True
    with np.errstate(over="ignore", invalid="ignore"):
        total = wide.sum(dtype=np.float32) if dtype == "F16" else np.einsum("i,i->", wide, wide)
    return bool(np.isfinite(total)) or bool(np.isfinite(wide).all())


def _work(
    piece: tuple[str, list[StoredTensor], int], alphas: Sequence[Sequence[float]], files: Mapping[Path, int]
) -> int:
    name, tensors, begin = piece
    inputs, outputs = tensors[: -len(alphas)], tensors[-len(alphas) :]
    stored = [_read(files[tensor.path], tensor, begin) for tensor in inputs]
    written = 0
    with np.errstate(over="ignore", invalid="ignore"):  # NaN and inf of an input reach the outputs that it is part of
        chunks = _combine(stored, [tensor.dtype for tensor in inputs], alphas, outputs[0].dtype)
        for output, values in zip(outputs, chunks, strict=True):
            if not _is_finite(values, output.dtype):
                for tensor, read in zip(inputs, stored, strict=True):
                    _check(name, tensor, read)
                raise overflow(name, FLOATS[output.dtype])
            _write(files[output.path], values, output.offset + begin * ITEM_SIZES[output.dtype])
            written += values.nbytes
    return written


def _combine(
    stored: Sequence[Array], dtypes: Sequence[str], outputs: Sequence[Sequence[float]], dtype: str
) -> Iterator[Array]:
    """Yield one chunk for each output, computed in the same way as in `interpolation.combine_tensor`."""
    arithmetic = np.float64 if "F64" in dtypes else np.float32
    wide = [_widened(x, stored_as).astype(arithmetic, copy=False) for x, stored_as in zip(stored, dtypes, strict=True)]
    same = [np.equal(_bits(x), _bits(wide[0])) for x in wide]
    for alphas in outputs:
        model, parts = singled_out(alphas), [i for i, alpha in enumerate(alphas, start=1) if alpha]
        unchanged = reduce(np.logical_and, [same[i] for i in parts], same[0])
        if model is None and unchanged.all():  # also for integers: those that are mixed are equal
            model = 0
        if model is not None:
            yield stored[model] if dtypes[model] == dtype else _rounded(wide[model], dtype)
            continue
        values = _rounded(_sum(wide, alphas), dtype)
        np.copyto(values, stored[0] if dtypes[0] == dtype else _rounded(wide[0], dtype), where=unchanged)
        yield values


def _sum(wide: Sequence[Array], alphas: Sequence[float]) -> Array:
    start, *others = wide
    total = start
    for x, alpha in zip(others, alphas, strict=True):
        if alpha:
            part = x - start
            part *= float(alpha)
            part += total
            total = part
    return total


def _bits(values: Array) -> Array:
    return values.view(f"u{values.itemsize}")


def _widened(stored: Array, dtype: str) -> Array:
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored


def _rounded(values: Array, dtype: str) -> Array:
    """Round to the nearest value, with ties to even. Overflow gives inf, and NaN stays NaN."""
    if dtype in ("F64", "F32"):
        return values.astype(_NUMPY[dtype], copy=False)
    values = values.astype(np.float32, copy=False)  # torch rounds float64 to half precision via float32
    if dtype == "F16":
        return values.astype(np.float16)
    bits = values.view(np.uint32)
    rounded = ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype(np.uint16)
    nan = np.isnan(values)
    rounded[nan] = (bits[nan] >> 16) | 0x40
    return rounded


def _read(file: int, tensor: StoredTensor, begin: int) -> Array:
    values = np.empty(min(CHUNK, tensor.size - begin), _NUMPY[tensor.dtype])
    offset, rest = tensor.offset + begin * values.itemsize, values.view(np.uint8).data
    while rest:
        count = read_at(file, rest, offset)
        if not count:
            raise InputError(f"{tensor.path} was truncated while it was being read.")
        offset, rest = offset + count, rest[count:]
    return values


def _write(file: int, values: Array, offset: int) -> None:
    rest = values.view(np.uint8).data
    while rest:
        count = write_at(file, rest, offset)
        offset, rest = offset + count, rest[count:]
