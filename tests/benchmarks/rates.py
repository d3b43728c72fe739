"""The rates of this machine, measured: matrix products, other operations, disk, hashing, decoding."""

import hashlib
import io
import os
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from common import FOLDER
from inputs import draw_jpeg, make_processor
from machines import Machine
from PIL import Image as PILImage
from torch.nn import functional
from towers import num_tokens
from transformers import CLIPVisionConfig
from transformers.activations import ACT2FN

from hf_paint.data.transforms import PixelTransform
from hf_paint.weights.streaming import CHUNK, THREADS


ONE_FILE = 256 * 2**20
"""Bytes that are written."""


class Rates(NamedTuple):
    """Core rates for a tower's shapes: forward and backward operations, and bytes."""

    matrix: float
    matrix_backward: float
    elementwise: float


def tower_rates(config: CLIPVisionConfig, num_images: int, *, backward: bool = True) -> Rates:
    """Measure a layer's matrix products and its MLP activation in bfloat16 on a batch's tokens.

    Args:
        config: The image tower.
        num_images: Images in the batch.
        backward: Measure the backward pass too.
    """
    rows, width, mlp = num_images * num_tokens(config), config.hidden_size, config.intermediate_size
    shapes = [(width, width), (width, mlp), (mlp, width)]
    forward_seconds = backward_seconds = 0.0
    for count, (inputs, outputs) in zip((4, 1, 1), shapes, strict=True):
        x, weight = (torch.randn(*shape, dtype=torch.bfloat16) for shape in ((rows, inputs), (outputs, inputs)))
        layer = partial(functional.linear, x, weight)
        taken = _forward_backward(layer, [x, weight], backward=backward)
        forward_seconds, backward_seconds = forward_seconds + count * taken[0], backward_seconds + count * taken[1]
    flops = 2 * rows * (4 * width * width + 2 * width * mlp)
    x = torch.randn(rows, mlp, dtype=torch.bfloat16)
    taken = _forward_backward(partial(ACT2FN[config.hidden_act], x), [x], backward=backward)
    quick = config.hidden_act == "quick_gelu"
    moved = (14 if quick else 4) * x.numel() + ((28 if quick else 6) * x.numel() if backward else 0)
    return Rates(
        matrix=flops / forward_seconds,
        matrix_backward=2 * flops / backward_seconds if backward else 0.0,
        elementwise=moved / sum(taken),
    )


def this_machine(config: CLIPVisionConfig, *, network: float, rounds: int) -> Machine:
    """Measure one core of this machine with one tower's shapes, and multiply by the number of cores.

    Args:
        config: The image tower.
        network: Upload rate in bytes per second, which is not measured.
        rounds: Number of measurements; the median is used.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    single = chunk_rate, disk_rate, hashing_rate, decoding_rate
    found = [(*tower_rates(config, 4), *(rate() for rate in single)) for _ in range(rounds)]
    matrix, backward, elementwise, chunks, disk, hashing, decoding = map(statistics.median, zip(*found, strict=True))
    torch.set_num_threads(cores)
    return Machine(
        name=f"this machine, {cores} cores",
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        matrix=cores * matrix,
        matrix_backward=cores * backward,
        elementwise=cores * elementwise,
        cores=cores * chunks,
        disk=disk,
        hashing=hashing,
        network=network,
        decoding=cores * decoding,
    )


def chunk_rate() -> float:
    """Return the bytes per second of one core in interpolation arithmetic, with the same chunks and threads."""
    x_0, x_1 = np.random.default_rng(0).standard_normal((2, CHUNK), np.float32)

    def combine(_: int) -> None:
        part = x_1 - x_0
        part *= 0.3
        part += x_0

    chunks = range(400)
    return len(chunks) * (12 + 8 + 12) * CHUNK / in_threads(combine, chunks)


def disk_rate() -> float:
    """Return the bytes per second written to a new file and flushed to disk."""
    path, data = FOLDER / "rate.bin", os.urandom(2**22)
    start = time.perf_counter()
    with path.open("wb") as file:
        for _ in range(ONE_FILE // len(data)):
            file.write(data)
        os.fsync(file.fileno())
    taken = time.perf_counter() - start
    path.unlink()
    return ONE_FILE / taken


def hashing_rate() -> float:
    """Return the bytes per second hashed with SHA-256."""
    data = os.urandom(2**26)
    return len(data) / seconds_of(partial(hashlib.sha256, data))


def cache_rates(source: Path) -> tuple[float, float]:
    """Return the bytes per second at which one core reads a cached file and writes one of the same size.

    Uses the same chunks and threads as interpolation, and flushes what it writes, as interpolation does.
    """
    target, size = FOLDER / "target.bin", source.stat().st_size
    chunks = range(0, size - 4 * CHUNK, 4 * CHUNK)
    target.unlink(missing_ok=True)
    with source.open("rb", buffering=0) as file:
        reading = in_threads(
            lambda offset: os.preadv(file.fileno(), [np.empty(4 * CHUNK, np.uint8).data], offset), chunks
        )
    data = os.urandom(4 * CHUNK)
    with target.open("wb", buffering=0) as file:
        os.truncate(file.fileno(), size)
        writing = in_threads(lambda offset: os.pwrite(file.fileno(), data, offset), chunks)
        writing += seconds_of(partial(os.fsync, file.fileno()))
    target.unlink()
    return size / reading, size / writing


def in_threads(work: Callable[[int], Any], pieces: range) -> float:
    """Time work on pieces in as many threads as interpolation uses."""
    with ThreadPoolExecutor(THREADS) as pool:
        return seconds_of(lambda: list(pool.map(work, pieces)))


def decoding_rate(*, num_images: int = 40) -> float:
    """Return how many JPEGs of 500x375 one core decodes and resizes in a second."""
    transform, jpeg = PixelTransform(make_processor(["a photo"], vocab_size=300)), draw_jpeg(0)

    def decode() -> None:
        for _ in range(num_images):
            transform.resize_and_crop(PILImage.open(io.BytesIO(jpeg)).convert("RGB"))

    return num_images / seconds_of(decode)


def now() -> float:
    """Return the time in seconds; with one thread, processor time, so that other load does not count."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def seconds_of(way: Callable[[], Any]) -> float:
    """Time one call."""
    start = now()
    way()
    return now() - start


def _forward_backward(
    layer: Callable[[], torch.Tensor], inputs: list[torch.Tensor], *, backward: bool
) -> tuple[float, float]:
    """Return the times of a forward and a backward pass, each the median of three after one warm-up."""
    for tensor in inputs:
        tensor.requires_grad_(backward)
    forward, gradients = [], []
    for _ in range(4):
        start = now()
        out = layer()
        forward.append(now() - start)
        gradient = torch.ones_like(out)
        if backward:
            gradients.append(seconds_of(partial(torch.autograd.grad, out, inputs, gradient)))
    return statistics.median(forward[1:]), statistics.median(gradients[1:]) if backward else 0.0
