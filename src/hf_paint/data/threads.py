"""Decode images in threads: Pillow releases Python's global lock while it decodes and resizes."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar


Item = TypeVar("Item")
Output = TypeVar("Output")
MAX_THREADS = 32
"""Maximum number of threads. More would wait for each other, because a few per cent of the work runs in Python."""


def in_threads(function: Callable[[Item], Output], items: Iterable[Item]) -> Iterator[Output]:
    """Yield `function(item)` for each item, in order, computed ahead of time in threads. The first error is raised.

    One process per node decodes while the others wait, so it uses all cores available to it.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, MAX_THREADS)
    waiting: deque[Future[Output]] = deque()
    with ThreadPoolExecutor(threads, "decode") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > 8 * threads:  # limits the memory used by results
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
