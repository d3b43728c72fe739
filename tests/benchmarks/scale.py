"""The cost of patching, from ViT-B/32 to an image tower of 18 billion parameters: memory, time, first limit.

    python tests/benchmarks/scale.py [presets measured check] [--matrix 100e12 --disk 1.0 --network 0.1 --memory 80]

`presets` needs no measurement: it assumes the rates of 80 GB GPUs, the published peaks of an H100 and an H200, and the
machine that the options describe.
`measured` measures the rates of this machine first. `check` runs B/32 and L/14 here and compares. The default is all
three.
"""

import argparse
from collections.abc import Sequence

from common import Row, arguments, report
from machines import PLANS, PRESETS, PUBLISHED, USABLE, Job, Machine, Seconds
from simulation import (
    devices_needed,
    first_fit,
    host_memory,
    interpolation_seconds,
    model_bytes,
    push_seconds,
    sweep_memory,
    sweep_seconds,
    training_memory,
    training_seconds,
)
from towers import SHAPES, clip_config, image_parameters
from transformers import CLIPConfig


GB = 1e9
HEADER = ("model", "job", "memory, as it is", "first limit", "what removes it", "memory then", "time", "most of it")
SPEEDUPS = {
    "matrix products": "more devices",
    "memory bandwidth": "`torch_compile: true`",
    "decoding": "more cores",
    "link": "larger micro-batches",
    "disk": "a faster disk",
    "hashing": "faster cores",
}
"""What shortens the longest part of a job."""


def main() -> None:
    """Print the requested tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("parts", nargs="*", metavar="part", help="presets, measured, check; all by default")
    add_machine(parser)
    parsed = arguments(__doc__, parser)
    parts = parsed.parts or ["presets", "measured", "check"]
    job = Job(num_images=parsed.images, num_alphas=parsed.alphas, num_variants=parsed.alphas + 1)
    machines = [*PRESETS, *PUBLISHED] if "presets" in parts else []
    if parsed.matrix:
        machines.append(given_machine(parsed))
    if "measured" in parts:
        from rates import this_machine  # imported here because torch and the data libraries are slow to import

        config = clip_config("ViT-B/32" if parsed.quick else "ViT-L/14")
        machines.append(this_machine(config.vision_config, network=parsed.network * GB, rounds=parsed.rounds))
    for machine in machines:
        print(table(machine, job))
    if "check" in parts:
        report(checked(parsed), parsed)


def add_machine(parser: argparse.ArgumentParser) -> None:
    """Add the options that describe a machine and the work."""
    parser.add_argument("--matrix", type=float, help="FLOP/s of bfloat16 matrix products, per device")
    parser.add_argument("--bandwidth", type=float, default=2400, help="GB/s of a device's memory")
    parser.add_argument("--memory", type=float, default=80, help="GB per device")
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--host_memory", type=float, default=256, help="GB beside the devices; 0 for a CPU")
    parser.add_argument("--disk", type=float, default=1.0, help="GB/s")
    parser.add_argument("--network", type=float, default=0.1, help="GB/s of upload")
    parser.add_argument("--decoding", type=float, default=5920, help="images/s on all cores")
    parser.add_argument("--images", type=int, default=20000, help="images of a sweep")
    parser.add_argument("--alphas", type=int, default=11, help="alphas of a sweep")


def given_machine(parsed: argparse.Namespace) -> Machine:
    """Return the machine that the options describe."""
    return Machine(
        name="as given",
        devices=parsed.devices,
        memory=parsed.memory * GB,
        host_memory=parsed.host_memory * GB,
        matrix=parsed.matrix,
        elementwise=parsed.bandwidth * GB,
        disk=parsed.disk * GB,
        network=parsed.network * GB,
        decoding=parsed.decoding,
    )


def table(machine: Machine, job: Job) -> str:
    """Return a Markdown table of every model's cost on a machine."""
    rates = f"{machine.matrix / 1e12:.3g} TFLOP/s, {machine.elementwise / GB:.3g} GB/s of memory, "
    rates += f"{machine.disk / GB:.2g} GB/s of disk, {machine.network / GB:.2g} GB/s of network"
    work = f"{job.num_steps} steps of batch {job.batch_size}, {job.num_alphas} alphas x {job.num_images} images"
    lines = [f"\n## {machine.name}\n", f"{rates}, {machine.decoding:.0f} images/s decoded; {work}.\n", _line(HEADER)]
    lines.append(" --- ".join("|" * (len(HEADER) + 1)))
    for shape in SHAPES:
        config = clip_config(shape)
        size = f"{shape}, {image_parameters(config.vision_config) / 1e9:.3g} B"
        rows = [training_row, sweep_row, interpolation_row, push_row]
        lines += [_line([size, *row(config, machine, job)]) for row in rows]
    return "\n".join(lines)


def training_row(config: CLIPConfig, machine: Machine, job: Job) -> list[str]:
    """Describe whether training fits as is and, if not, which plan makes it fit."""
    memory = training_memory(config, machine, PLANS[0], job)
    plan = first_fit(config, machine, job)
    limit = memory.limit(machine.memory)
    if plan is None:
        needed = None if machine.is_cpu else devices_needed(config, machine, job, PLANS[3])
        removed = f"{PLANS[3].name} over {needed} of these" if needed else "a GPU"
        return ["train", _gb(memory.total()), limit, removed, "", "", ""]
    host = host_memory(config, machine, training=True)
    if not machine.is_cpu and host > USABLE * machine.host_memory:
        return ["train", _gb(memory.total()), *_host_limit(host), "", "", ""]
    seconds, then = training_seconds(config, machine, plan, job), training_memory(config, machine, plan, job)
    return ["train", _gb(memory.total()), *_removed(limit, plan.name, seconds), _gb(then.total()), *_time(seconds)]


def sweep_row(config: CLIPConfig, machine: Machine, job: Job) -> list[str]:
    """Describe whether a sweep fits on a GPU, with theta_0 and theta_1 on it too, or with both in their files."""
    ways = [sweep_memory(config, machine, ends_on_device=on_device) for on_device in (True, False)]
    limit, remaining = (memory.limit(machine.memory) for memory in ways)
    at_first, then = (_gb(memory.total()) for memory in ways)
    host = host_memory(config, machine, training=False)
    if remaining:
        removed = f"a device of {_gb(ways[1].total() / USABLE)}, `precision: bf16`"
        return ["sweep", at_first, limit, removed, then, "", ""]
    if not machine.is_cpu and host > USABLE * machine.host_memory:
        return ["sweep", at_first, *_host_limit(host), "", "", ""]
    seconds = sweep_seconds(config, machine, job)
    removed = _removed(limit, "ends in their files (automatic)", seconds)
    return ["sweep", at_first, *removed, then if limit else at_first, *_time(seconds)]


def interpolation_row(config: CLIPConfig, machine: Machine, job: Job) -> list[str]:
    """Describe the time to write every variant; only a few pieces of a file are in memory at a time."""
    seconds = interpolation_seconds(config, machine, job.num_variants)
    half = interpolation_seconds(config, machine, job.num_variants, item_size=2)
    written = f"0.1 GB, {_gb(job.num_variants * model_bytes(config))} of disk"
    remedy = f"`--save_dtype bfloat16`: {_duration(half.total())}"
    name = f"interpolate, {job.num_variants} variants"
    return [name, written, f"time: {seconds.limit()}", remedy, "0.1 GB", *_time(seconds)]


def push_row(config: CLIPConfig, machine: Machine, job: Job) -> list[str]:
    """Describe the time to push every variant, or only the patch."""
    seconds = push_seconds(machine, job.num_variants * model_bytes(config))
    delta = push_seconds(machine, 4 * image_parameters(config.vision_config))
    remedy = f"`--form delta`: {_duration(delta.total())}"
    name, disk = f"push, {job.num_variants} branches", f"{_gb(model_bytes(config))} of disk"
    return [name, disk, f"time: {seconds.limit()}", remedy, "", *_time(seconds)]


def checked(parsed: argparse.Namespace) -> list[Row]:
    """Compare predictions with measurements on this machine."""
    from scale_check import check

    shapes = ("ViT-B/32",) if parsed.quick else ("ViT-B/32", "ViT-L/14")
    return [
        row for shape in shapes for task in ("train", "sweep", "interpolate") for row in check(task, shape, parsed)
    ]


def _removed(limit: str, plan: str, seconds: Seconds) -> tuple[str, str]:
    """Return the first bottleneck (memory, or else the longest part) and how to fix it."""
    return (limit, plan) if limit else (f"time: {seconds.limit()}", SPEEDUPS[seconds.limit()])


def _host_limit(size: float) -> tuple[str, str]:
    return "memory: host", f"{_gb(size / USABLE)} beside the devices"


def _time(seconds: Seconds) -> tuple[str, str]:
    return _duration(seconds.total()), seconds.limit()


def _duration(seconds: float) -> str:
    """Format a time in a suitable unit."""
    for unit, length in (("days", 86400.0), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 1.5 * length:
            return f"{seconds / length:.2g} {unit}"
    return f"{seconds:.2g} s"


def _gb(size: float) -> str:
    return f"{size / GB:.3g} GB"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
