"""The input and output of the simulation: machines with their rates, the work, the training setup, memory and time."""

from dataclasses import dataclass
from typing import NamedTuple


USABLE = 0.9
"""The share of a memory that is planned with; the rest is fragments and what libraries keep."""
CHECKPOINTING, MICRO_BATCH = "gradient_checkpointing", "gradient_accumulation_steps"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine by its rates; a rate is per second.

    Attributes:
        name: Its name in tables.
        devices: Their number, each with its own process.
        memory: Bytes of each device; on a CPU, of the machine.
        host_memory: Bytes beside the devices; 0 on a CPU, which has one memory for all.
        matrix: Floating-point operations of matrix products in bfloat16, per device.
        matrix_backward: The same for the backward pass; `matrix` by default.
        elementwise: Bytes that all other operations move, per device.
        cores: Bytes that operations of the host move, where files are interpolated.
        link: Bytes between devices.
        disk: Bytes written to a file, or read.
        network: Bytes uploaded.
        hashing: Bytes of SHA-256, one core.
        decoding: Images decoded and resized, on all cores.
    """

    name: str
    devices: int = 1
    memory: float
    host_memory: float = 0.0
    matrix: float
    matrix_backward: float = 0.0
    elementwise: float
    cores: float = 40e9
    link: float = 300e9
    disk: float
    network: float
    hashing: float = 1.1e9
    decoding: float

    @property
    def is_cpu(self) -> bool:
        """Return whether host and device are one."""
        return not self.host_memory


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work: PAINT's training, and a sweep.

    Attributes:
        batch_size: Images per step, on all devices together.
        num_steps: Steps.
        num_alphas: Alphas of the sweep.
        num_images: Images of each alpha.
        num_variants: Models to write or push.
    """

    batch_size: int = 128
    num_steps: int = 2000
    num_alphas: int = 11
    num_images: int = 20000
    num_variants: int = 12


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The training setup; the names are recipe keys.

    Attributes:
        name: Its name in tables.
        micro_batch: The most images that a device holds at once; the others of its batch are accumulated.
        checkpointing: Keep the inputs of layers alone, and compute their inside twice.
        sharded: Weights, gradients and optimizer spread over all devices (FSDP2).
        lora_rank: Train adapters of this rank on attention and MLP instead of the weights; 0 trains the weights.
    """

    name: str = ""
    micro_batch: int = 2**31
    checkpointing: bool = False
    sharded: bool = False
    lora_rank: int = 0


PLANS = (
    Plan(),
    Plan(name=f"{MICRO_BATCH} (16 images at once)", micro_batch=16),
    Plan(name=f"{CHECKPOINTING}, 16 images at once", micro_batch=16, checkpointing=True),
    Plan(name=f"FSDP2, {CHECKPOINTING}, 16 images at once", micro_batch=16, checkpointing=True, sharded=True),
    Plan(name=f"LoRA, {CHECKPOINTING}, 1 image at once", micro_batch=1, checkpointing=True, lora_rank=16),
)
"""From what costs least to what costs most; the first that fits is the one to use."""


class Memory(NamedTuple):
    """Bytes on a device at the peak of a job."""

    weights: float
    optimizer: float = 0.0
    gradients: float = 0.0
    activations: float = 0.0

    def total(self) -> float:
        """Return the sum of the parts."""
        return sum(self)

    def limit(self, capacity: float) -> str:
        """Return the first part that does not fit, added up in order; empty if all fit."""
        total = 0.0
        for part, size in self._asdict().items():
            total += size
            if total > USABLE * capacity:
                return f"memory: {part}"
        return ""


class Seconds(NamedTuple):
    """Seconds of a job by activity; overlapping work is not added."""

    matrix_products: float = 0.0
    memory_bandwidth: float = 0.0
    decoding: float = 0.0
    link: float = 0.0
    disk: float = 0.0
    network: float = 0.0
    hashing: float = 0.0
    overlap: bool = False

    def total(self) -> float:
        """Return the wall time: the sum, or the longest part where decoding and communication overlap the work."""
        beside = (self.decoding, self.link)
        work = sum(self[:-1]) - sum(beside)
        return max(work, *beside) if self.overlap else work + sum(beside)

    def limit(self) -> str:
        """Return the part that takes most of the wall time, ignoring parts hidden behind longer work."""
        hidden = ("decoding", "link") if self.overlap and self.total() > max(self.decoding, self.link) else ()
        names = [name for name in self._fields[:-1] if name not in hidden]
        return max(names, key=lambda name: getattr(self, name)).replace("_", " ")


PRESETS = (
    Machine(
        name="one GPU of 80 GB",
        memory=80e9,
        host_memory=256e9,
        matrix=600e12,
        elementwise=2.4e12,
        disk=1e9,
        network=0.1e9,
        decoding=16 * 370,
    ),
    Machine(
        name="eight GPUs of 80 GB",
        devices=8,
        memory=80e9,
        host_memory=2e12,
        matrix=600e12,
        elementwise=2.4e12,
        disk=2e9,
        network=0.2e9,
        decoding=96 * 370,
    ),
)
"""Assumed, not measured: two thirds of the peaks of an H100, 0.8 and 1.6 Gbit/s of network, 16 and 96 cores."""
