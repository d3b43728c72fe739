"""Copy batches to a GPU while it computes: from pinned memory, on a stream of their own, ahead of their use."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeAlias

import torch
from torch import Tensor


Batch: TypeAlias = dict[str, Any]
"""Tensors, and values that are no tensors and stay as they are."""
DEPTH = 2
"""How many batches are fetched ahead."""


class DeviceCopies:
    """Copies batches to a device. On a CUDA device, the copy overlaps with what the device computes.

    A copy on the stream that computes would wait for all steps that are queued there, and only pinned memory can be
    copied in the background.

    Args:
        device: Device to copy to. On any other than a CUDA device, batches are copied as usual.
        pin: Pin batches that are not pinned. Otherwise the CPU waits for their copies.
    """

    def __init__(self, device: torch.device, *, pin: bool = True) -> None:
        self.device: torch.device = device
        self.pin: bool = pin
        self.stream: torch.cuda.Stream | None = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, batch: Mapping[str, Any]) -> Batch:
        """Start copying a batch; `finish` must be called before it is used."""
        if self.stream is None:
            return {key: x.to(self.device) if torch.is_tensor(x) else x for key, x in batch.items()}
        with torch.cuda.stream(self.stream):
            return {key: self._copy(x) if torch.is_tensor(x) else x for key, x in batch.items()}

    def finish(self, batch: Batch) -> Batch:
        """Make the current stream wait for the copies that were started. The CPU does not wait."""
        if self.stream is not None:
            current = torch.cuda.current_stream(self.device)
            current.wait_stream(self.stream)
            for x in filter(torch.is_tensor, batch.values()):
                x.record_stream(current)  # else its memory could be reused while the step that reads it is queued
        return batch

    def _copy(self, x: Tensor) -> Tensor:
        source = x.pin_memory() if self.pin and x.device.type == "cpu" else x
        return source.to(self.device, non_blocking=True)


def prefetch(batches: Iterable[Mapping[str, Any]], device: torch.device) -> Iterator[Batch]:
    """Yield batches on a device, in order; if it is a CUDA device, the next ones are fetched and copied meanwhile.

    Batches are fetched in a thread. On any other device they are fetched one by one, as they are asked for.

    Example:
        >>> [batch["x"] for batch in prefetch([{"x": torch.ones(())}], torch.device("cpu"))]
        [tensor(1.)]
    """
    copies = DeviceCopies(device)
    if copies.stream is None:
        yield from map(copies.start, batches)
        return
    iterator = iter(batches)

    def fetch() -> Batch | None:
        batch = next(iterator, None)
        return None if batch is None else copies.start(batch)

    with ThreadPoolExecutor(1, "prefetch") as pool:
        ahead: deque[Future[Batch | None]] = deque(pool.submit(fetch) for _ in range(DEPTH))
        while (batch := ahead.popleft().result()) is not None:
            ahead.append(pool.submit(fetch))
            yield copies.finish(batch)
