"""The input and output of the simulation: machines with their rates, the work, the training setup, memory and time."""

from dataclasses import dataclass, replace
from typing import NamedTuple


USABLE = 0.9
"""The share of a memory that is planned with; the rest is fragments and what libraries keep."""
CHECKPOINTING, MICRO_BATCH = "gradient_checkpointing", "gradient_accumulation_steps"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A machine described by its rates, all per second.

    Attributes:
        name: Name shown in tables.
        devices: Number of devices; each has its own process.
        memory: Bytes of memory per device; on a CPU, of the whole machine.
        host_memory: Bytes of host memory apart from the devices; 0 on a CPU, where all memory is shared.
        matrix: Floating-point operations of matrix products in bfloat16, per device.
        matrix_backward: The same for the backward pass; `matrix` by default.
        matrix_fp32: Floating-point operations of matrix products in float32 (without TF32), per device.
        elementwise: Bytes moved by all other operations, per device.
        cores: Bytes moved by host operations when interpolating files.
        link: Bytes transferred between devices.
        disk: Bytes read from or written to files.
        network: Bytes uploaded.
        hashing: Bytes hashed with SHA-256 on one core.
        decoding: Images decoded and resized, on all cores.
        tokenizing: Prompts tokenized, on one core.
    """

    name: str
    devices: int = 1
    memory: float
    host_memory: float = 0.0
    matrix: float
    matrix_backward: float = 0.0
    matrix_fp32: float = 0.0
    elementwise: float
    cores: float = 40e9
    link: float = 300e9
    disk: float
    network: float
    hashing: float = 1.1e9
    decoding: float
    tokenizing: float = 15e3

    @property
    def is_cpu(self) -> bool:
        """Return whether the device is the host CPU."""
        return not self.host_memory


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work: PAINT's training, and a sweep.

    Attributes:
        batch_size: Images per step over all devices.
        num_steps: Number of training steps.
        num_alphas: Number of alphas in the sweep.
        num_images: Number of images evaluated at each alpha.
        num_variants: Number of models to write or push.
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
        micro_batch: Maximum number of images per forward pass on a device; larger batches use gradient accumulation.
        checkpointing: Store only each layer's input, and recompute its activations in the backward pass.
        sharded: Shard weights, gradients and optimizer state over all devices (FSDP2).
        lora_rank: Train adapters of this rank on attention and MLP instead of the weights; 0 trains the weights.
        compiled: Compile the blocks (`torch_compile`).
    """

    name: str = ""
    micro_batch: int = 2**31
    checkpointing: bool = False
    sharded: bool = False
    lora_rank: int = 0
    compiled: bool = False


PLANS = (
    Plan(),
    Plan(name=f"{MICRO_BATCH} (16 images at once)", micro_batch=16),
    Plan(name=f"{CHECKPOINTING}, 16 images at once", micro_batch=16, checkpointing=True),
    Plan(name=f"FSDP2, {CHECKPOINTING}, 16 images at once", micro_batch=16, checkpointing=True, sharded=True),
    Plan(name=f"LoRA, {CHECKPOINTING}, 1 image at once", micro_batch=1, checkpointing=True, lora_rank=16),
)
"""Plans from cheapest to most expensive; use the first that fits."""


class Memory(NamedTuple):
    """Bytes on a device at a job's peak."""

    weights: float
    optimizer: float = 0.0
    gradients: float = 0.0
    activations: float = 0.0

    def total(self) -> float:
        """Return the total number of bytes."""
        return sum(self)

    def limit(self, capacity: float) -> str:
        """Add up the parts in order and return the first that does not fit, or an empty string if all fit."""
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
        """Return the wall time: the sum, or only the longest part if decoding and communication overlap work."""
        beside = (self.decoding, self.link)
        work = sum(self[:-1]) - sum(beside)
        return max(work, *beside) if self.overlap else work + sum(beside)

    def limit(self) -> str:
        """Return the part that takes most of the wall time, ignoring parts hidden behind longer work."""
        hidden = ("decoding", "link") if self.overlap and self.total() > max(self.decoding, self.link) else ()
        names = [name for name in self._fields[:-1] if name not in hidden]
        return max(names, key=lambda name: getattr(self, name)).replace("_", " ")


ONE = Machine(
    name="one GPU of 80 GB",
    memory=80e9,
    host_memory=256e9,
    matrix=600e12,
    matrix_fp32=45e12,
    elementwise=2.4e12,
    disk=1e9,
    network=0.1e9,
    decoding=16 * 370,
)
EIGHT = replace(
    ONE, name="eight GPUs of 80 GB", devices=8, host_memory=2e12, disk=2e9, network=0.2e9, decoding=96 * 370
)
PRESETS = (ONE, EIGHT, replace(ONE, name="one GPU of 141 GB", memory=141e9, elementwise=3.4e12))
"""Assumed, not measured: some two thirds of the published peaks, 0.8 and 1.6 Gbit/s of network, 16 and 96 cores."""
H100 = replace(ONE, name="H100 SXM, published peaks", matrix=989e12, matrix_fp32=67e12, elementwise=3.35e12)
H200 = replace(H100, name="H200 SXM, published peaks", memory=141e9, elementwise=4.8e12)
PUBLISHED = (H100, H200)
"""What NVIDIA's data sheets state (dense bfloat16, memory bandwidth), which no program reaches: limits, no plans."""
