"""What the sections of the GPU check share: the setting they run in, the figures they give, and a clock."""

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import torch
from inputs import matrix_peak


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where and how large.

    Attributes:
        device: `cuda` or `cpu`.
        tiny: A tiny model and a few images, to see that the script works; targets mean nothing.
    """

    device: str
    tiny: bool

    @property
    def shapes(self) -> tuple[str, ...]:
        """The models to measure, from the most important on."""
        return ("tiny",) if self.tiny else ("ViT-L/14", "ViT-B/32")

    def shape(self, full: str) -> str:
        """Return a shape, or the tiny one in its place."""
        return "tiny" if self.tiny else full

    @property
    def backend(self) -> str:
        """What compiles: `eager` only finds the graphs, in a tenth of the time."""
        return "eager" if self.tiny else "inductor"

    def goal(self, target: str, met: bool) -> dict[str, Any]:
        """Return the target of a speed, which means nothing for tiny shapes."""
        return {} if self.tiny else {"target": target, "met": bool(met)}

    def predicted(self, value: float) -> float | None:
        """Return a prediction, which holds for full sizes only."""
        return None if self.tiny else value

    def peak(self) -> float:
        """Return the device's bf16 operations per second on large matrix products."""
        if self.device == "cuda":
            return matrix_peak()
        left, right = (torch.randn(512, 512, dtype=torch.bfloat16) for _ in range(2))
        return 2 * 512**3 / self.seconds(lambda: left @ right)

    def seconds(self, way: Callable[[], Any], *, rounds: int = 3, warm: bool = True) -> float:
        """Return the median time of some calls after one that warms up, each until the device is done."""
        if warm:
            way()
        return statistics.median(self.once(way) for _ in range(1 if self.tiny else rounds))

    def once(self, way: Callable[[], Any]) -> float:
        """Return the time of one call, until the device is done."""
        self.wait()
        start = time.perf_counter()
        way()
        self.wait()
        return time.perf_counter() - start

    def wait(self) -> None:
        """Wait for the device."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def memory(self, way: Callable[[], Any]) -> float:
        """Return the peak memory on the device during a call, in bytes; 0 on a CPU."""
        if self.device != "cuda":
            way()
            return 0.0
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        way()
        return float(torch.cuda.max_memory_allocated())


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A measured number.

    Attributes:
        name: What was measured.
        value: The number; None if there is only a note.
        unit: Its unit.
        beside: The number to compare with: another implementation or another device.
        predicted: The number that the simulation predicted before.
        target: The target in words.
        met: Whether it is met; None without a target.
        note: Anything to say about it.
    """

    name: str
    value: float | None = None
    unit: str = ""
    beside: float | None = None
    predicted: float | None = None
    target: str = ""
    met: bool | None = None
    note: str = ""

    def line(self) -> str:
        """Return the figure as a row of a Markdown table."""
        met = {True: "yes", False: "NO", None: ""}[self.met]
        value, beside, predicted = (_number(x) for x in (self.value, self.beside, self.predicted))
        return f"| {' | '.join((self.name, f'{value} {self.unit}', beside, predicted, self.target, met, self.note))} |"

    to_dict = asdict


Figures = Iterator[Figure]
HEADER = "| figure | measured | beside | predicted | target | met | note |\n" + "| --- " * 7 + "|"


def last_error(log: str, *, limit: int = 2000) -> str:
    """Return the last traceback in a log, wherever it stands: what is printed may be written later than errors."""
    _, found, rest = log.rpartition("Traceback (most recent call last):")
    lines = rest.splitlines() if found else log.splitlines()[-20:]
    end = next((number for number, line in enumerate(lines[1:], 1) if line and not line[0].isspace()), len(lines))
    return "\n".join(lines[: end + 3] if found else lines)[-limit:]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
