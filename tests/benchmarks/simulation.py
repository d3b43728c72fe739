"""Predicted memory and time of each patching job on a machine, from arithmetic alone."""

import math
from collections.abc import Sequence
from dataclasses import replace

from machines import PLANS, USABLE, Job, Machine, Memory, Plan, Seconds
from towers import (
    COMBINE_BYTES,
    STEP_BYTES,
    flops_per_image,
    forward_bytes,
    image_parameters,
    layer_parameters,
    lora_parameters,
    num_tokens,
    saved_bytes,
    text_parameters,
    training_bytes,
)
from transformers import CLIPConfig


IMAGES_PER_CORE = 370
"""ImageNet photographs that a core decodes and resizes in a second (see `PRESETS`)."""


def training_memory(config: CLIPConfig, machine: Machine, plan: Plan, job: Job) -> Memory:
    """Return a training run's peak memory: float32 weights, their bfloat16 casts, AdamW, and saved activations.

    Without accumulation, gradients appear as activations are freed, so only the larger of the two counts. FSDP2
    accumulates whole gradients, in bfloat16, and scatters them at the last micro-batch; DDP sends all gradients from a
    copy. The base stays in its file; sharded, and on a CPU, so does the text tower.
    """
    vision = config.vision_config
    image = image_parameters(vision)
    text = 0 if plan.sharded or machine.is_cpu else text_parameters(config.text_config)
    trained = lora_parameters(vision, plan.lora_rank) if plan.lora_rank else image
    shards = machine.devices if plan.sharded else 1
    casts = 8 * layer_parameters(vision) if plan.sharded else 2 * image  # two layers in bf16, the gradients of one
    weights = 4 * (image / shards + text) + (4 * trained if plan.lora_rank else 0)
    share = job.batch_size / machine.devices
    at_once = min(share, plan.micro_batch)
    kept = at_once * saved_bytes(vision, eager=machine.is_cpu, checkpointing=plan.checkpointing) + casts
    gradients = 4 * trained / shards
    if at_once == share:
        kept = max(kept - gradients, 0.0)
    elif plan.sharded:
        gradients = 2 * trained
    sent = 4 * trained if machine.devices > 1 and not plan.sharded else 0
    return Memory(weights, 8 * trained / shards, gradients + sent, kept)


def training_seconds(config: CLIPConfig, machine: Machine, plan: Plan, job: Job) -> Seconds:
    """Return the time of a training run; matrix products of the backward pass are twice those of the forward pass."""
    vision = config.vision_config
    images = job.num_steps * job.batch_size / machine.devices
    trained = lora_parameters(vision, plan.lora_rank) if plan.lora_rank else image_parameters(vision)
    forward, backward = training_bytes(vision, eager=machine.is_cpu, compiled=plan.compiled)
    passes = 2 if plan.checkpointing else 1
    flops = flops_per_image(vision)
    rate = machine.matrix_backward or machine.matrix
    matrix = images * flops * (passes / machine.matrix + (1 if plan.lora_rank else 2) / rate)
    moved = images * (passes * forward + backward)
    moved += job.num_steps * STEP_BYTES * trained / (machine.devices if plan.sharded else 1)
    return Seconds(
        matrix_products=matrix,
        memory_bandwidth=moved / machine.elementwise,
        decoding=job.num_steps * job.batch_size / machine.decoding,
        link=link_seconds(trained, machine, plan, job),
        overlap=not machine.is_cpu,
    )


def training_rate(config: CLIPConfig, machine: Machine, plan: Plan, batch_size: int) -> float:
    """Return the images per second of training steps whose images are decoded already."""
    decoded = replace(machine, decoding=math.inf)
    return batch_size / training_seconds(config, decoded, plan, Job(batch_size=batch_size, num_steps=1)).total()


def prompt_rate(config: CLIPConfig, machine: Machine, num_tokens: float, *, bf16: bool) -> float:
    """Return the prompts per second that become a zero-shot head: one core tokenizes them, the device embeds them.

    Args:
        config: The model.
        machine: The machine.
        num_tokens: Tokens of a prompt, on average.
        bf16: Whether the text tower runs in bfloat16 rather than float32.
    """
    text = config.text_config
    matrix = machine.matrix if bf16 else machine.matrix_fp32
    layers, item_size = num_tokens * text.num_hidden_layers, 2 if bf16 else 4
    flops = 2 * layers * layer_parameters(text)
    moved = item_size * layers * (14 * text.hidden_size + 7 * text.intermediate_size)
    return min(machine.tokenizing, 1 / (flops / matrix + moved / machine.elementwise))


def feeding_rate(trains: float, machine: Machine, *, workers: int | None) -> float:
    """Return the images per second of training from JPEGs, whichever of training and decoding is slower.

    Args:
        trains: Images per second with decoded images.
        machine: The machine.
        workers: Worker processes that decode the images, one core each; None if they are decoded once before.
    """
    cores = machine.decoding / IMAGES_PER_CORE
    return trains if workers is None else min(trains, max(1, min(workers, cores)) * IMAGES_PER_CORE)


def link_seconds(trained: int, machine: Machine, plan: Plan, job: Job) -> float:
    """Return the time of communicating gradients and weights between devices in a training run.

    DDP sends each gradient twice in float32: to be summed, and back. FSDP2 sends it once, and weights
    twice in each micro-batch, all in bfloat16.
    """
    if machine.devices == 1:
        return 0.0
    gathered = 2 * 2 * math.ceil(job.batch_size / (machine.devices * plan.micro_batch))
    return job.num_steps * trained * (2 + gathered if plan.sharded else 2 * 4) / machine.link


def sweep_memory(
    config: CLIPConfig, machine: Machine, *, batch_size: int = 128, group: int = 128, ends_on_device: bool = True
) -> Memory:
    """Return a bfloat16 sweep's peak memory: the evaluated tower and, on a GPU, theta_0 and theta_1 in float32.

    Args:
        config: The model.
        machine: The machine.
        batch_size: Images with pixels in memory, in uint8, float32 and bfloat16.
        group: Images per forward pass of the tower.
        ends_on_device: Whether theta_0 and theta_1 are on the device; otherwise, and on a CPU, they stay in files.
    """
    vision = config.vision_config
    image = image_parameters(vision)
    ends = 8 * image if ends_on_device and not machine.is_cpu else 0
    pixels = batch_size * 3 * vision.image_size**2
    layer = min(group, batch_size) * num_tokens(vision) * (3 * vision.hidden_size + 3 * vision.intermediate_size)
    return Memory(weights=ends + 2 * image, activations=(1 + 4 + 2) * pixels + 2 * layer)


def host_memory(config: CLIPConfig, machine: Machine, *, training: bool) -> float:
    """Return the host memory of all processes in bytes: the base, and the copy to train.

    A base stored in float32 is memory-mapped and takes none.
    """
    return machine.devices * (model_bytes(config) + (4 * image_parameters(config.vision_config) if training else 0))


def sweep_seconds(config: CLIPConfig, machine: Machine, job: Job, *, compiled: bool = False) -> Seconds:
    """Return the time of a sweep: every image once per alpha, decoded once, and the weights of each alpha.

    Files that do not fit into memory are read once per alpha.
    """
    vision = config.vision_config
    image, images = image_parameters(vision), job.num_images * job.num_alphas / machine.devices
    reads = 1 if 8 * image < USABLE * (machine.host_memory or machine.memory) else job.num_alphas
    moved = images * forward_bytes(vision, compiled=compiled) + job.num_alphas * COMBINE_BYTES * image
    return Seconds(
        matrix_products=images * flops_per_image(vision) / machine.matrix,
        memory_bandwidth=moved / machine.elementwise,
        decoding=job.num_images / machine.decoding,
        disk=reads * 8 * image / machine.disk,
        hashing=8 * image / machine.hashing,
    )


def model_bytes(config: CLIPConfig, *, item_size: int = 4) -> int:
    """Return the size of a model folder's weights in bytes."""
    return item_size * (image_parameters(config.vision_config) + text_parameters(config.text_config))


def interpolation_seconds(config: CLIPConfig, machine: Machine, num_variants: int, *, item_size: int = 4) -> Seconds:
    """Return the folder-to-folder time; both inputs are read once, however many variants are written."""
    moved = num_variants * COMBINE_BYTES * model_bytes(config, item_size=1)
    stored = 2 * model_bytes(config) + num_variants * model_bytes(config, item_size=item_size)
    return Seconds(memory_bandwidth=moved / machine.cores, disk=stored / machine.disk)


def push_seconds(machine: Machine, size: float) -> Seconds:
    """Return the time to write bytes to a temporary folder, hash and upload them, without any reuse."""
    return Seconds(disk=size / machine.disk, hashing=size / machine.hashing, network=size / machine.network)


def first_fit(config: CLIPConfig, machine: Machine, job: Job, plans: Sequence[Plan] = PLANS) -> Plan | None:
    """Return the first plan that fits on a machine, or None."""
    for plan in plans:
        if plan.sharded and machine.devices == 1:
            continue
        if not training_memory(config, machine, plan, job).limit(machine.memory):
            return plan
    return None


def devices_needed(config: CLIPConfig, machine: Machine, job: Job, plan: Plan, *, most: int = 1024) -> int | None:
    """Return how many devices a sharded plan needs."""
    for devices in range(1, most + 1):
        memory = training_memory(config, replace(machine, devices=devices), plan, job)
        if not memory.limit(machine.memory):
            return devices
    return None
