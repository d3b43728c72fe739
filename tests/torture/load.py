"""Load: long runs, many files, classes and tensors; four times as much takes at most eight times the CPU time."""

import gc
import io
import logging
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import datasets
import numpy as np
from datasets import Dataset, Features, Image
from load_kinds import KINDS, Kind
from PIL import Image as PILImage
from tally import Budget, Tally

from damaged_images import overlapping_exif, png_of
from digits import TOY
from hf_paint.data.stored_images import decode_value
from hf_paint.data.transforms import PixelTransform
from hf_paint.models.loading import load_clip


MOST = 8.0
"""Largest CPU time of 4n inputs relative to that of n: 4 if it is proportional to their number, 16 if quadratic."""
TRIES = 4
"""Most measurements of each size."""
MOST_MEMORY = 1 << 30
"""Largest growth of the memory of this process, in bytes, while it reads hostile pictures."""


def torture(budget: Budget) -> Iterator[Tally]:
    """Measure each kind at a quarter of its size and at its whole size, and read hostile pictures."""
    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    for kind in KINDS:
        tally = Tally(f"{kind.name}, {kind.size // 4:,} and {kind.size:,}")
        if budget.left > 0:
            measure(kind, tally)
        yield tally
    yield hostile_pictures()


def measure(kind: Kind, tally: Tally) -> float:
    """Count an attempt, which is lost if four times as much takes more than `MOST` times as long; return that ratio.

    As other processes slow down this one, a ratio above `MOST` is measured again; the least time of each size counts.
    """
    seconds, ratio = [float("inf"), float("inf")], float("inf")
    with tally.attempt(f"python tests/torture/run.py load: {kind.name}, size {kind.size}"):
        for _ in range(TRIES):
            for i, size in enumerate((kind.size // 4, kind.size)):
                seconds[i] = min(seconds[i], _cpu_seconds(kind, size))
            ratio = seconds[1] / max(seconds[0], 1e-3)
            if ratio <= MOST:
                break
        tally.notes |= {"CPU": f"{seconds[0]:.2f} s and {seconds[1]:.2f} s", "peak memory": f"{_peak() / 1e6:.0f} MB"}
        if ratio > MOST:
            raise ValueError(f"four times as much took {ratio:.1f} times as long")
    return ratio


def _cpu_seconds(kind: Kind, size: int) -> float:
    """Return the CPU time of all threads of this process for some work of a size."""
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        work = kind.prepare(Path(folder), size)
        gc.collect()
        started = time.process_time()
        work()
        return time.process_time() - started


def hostile_pictures() -> Tally:
    """Strips are resized, and bombs are refused by name, in little memory."""
    tally = Tally("strips, bombs and tags that overlap")
    transform, before = PixelTransform(load_clip(TOY)[1]), _peak()
    for size in ((20_000, 1), (1, 20_000), (65_000, 1)):
        with tally.attempt(f"a picture of {size[0]} x {size[1]}"):
            pixels = transform.resize_and_crop(PILImage.new("RGB", size, (9, 99, 199)))
            if not np.array_equal(np.unique(pixels), [9, 99, 199]):
                raise ValueError("the colour changed")
    rows = Dataset.from_dict({"image": [None]}, features=Features({"image": Image()}))
    bombs = {"60000 x 60000": png_of(60_000, 60_000), "EXIF": png_of(4, 4, exif=overlapping_exif(20_000, 200_000))}
    for name, data in bombs.items():
        with tally.attempt(f"a PNG of {len(data)} bytes: {name}"):
            try:
                decode_value({"bytes": data, "path": None}, rows, "image")
            except Exception as error:
                if not str(error):
                    raise ValueError("no reason is given") from error
            else:
                raise ValueError("it was decoded")
    with tally.attempt("all of them together"):
        grown = _peak() - before
        tally.notes["memory grew by"] = f"{grown / 1e6:.0f} MB"
        if grown > MOST_MEMORY:
            raise ValueError(f"memory grew by {grown / 1e6:.0f} MB")
    return tally


def _peak() -> int:
    """Return the most memory that this process has held, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
