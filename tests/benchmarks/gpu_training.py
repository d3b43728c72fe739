"""The GPU check of training: rates of the card, steps against a bare loop, the input pipeline, LoRA, compilation."""

import statistics
import warnings
from collections import Counter
from functools import partial
from pathlib import Path

import torch
from gpu_figures import Figure, Figures, Setting
from machines import PRESETS, Job, Machine, Plan
from material import DrawnImages
from simulation import training_memory, training_seconds
from sweep import Sweep
from torch import Tensor
from towers import clip_config, flops_per_image
from transformers import TrainerCallback

from hf_paint.evaluation.evaluator import Evaluator
from training import Training, now


BATCHES = {"ViT-B/32": 512, "ViT-L/14": 128}
STEPS = {"ViT-B/32": 40, "ViT-L/14": 12}
MIN_SHARE, MAX_OVERHEAD = 0.5, 0.05


def rates(setting: Setting) -> Figures:
    """Matrix products and copies: what the other figures are compared with."""
    yield Figure(name="matrix products, bf16", value=setting.peak() / 1e12, unit="TFLOP/s")
    size = 512 if setting.tiny else 8192
    left, right = (torch.randn(size, size, device=setting.device) for _ in range(2))
    for tf32 in (False, True):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        rate = 2 * size**3 / setting.seconds(lambda: left @ right) / 1e12
        yield Figure(name=f"matrix products, fp32{' with TF32' if tf32 else ''}", value=rate, unit="TFLOP/s")
    source = torch.empty((1 if setting.tiny else 1024) * 2**20, dtype=torch.uint8, device=setting.device)
    target = torch.empty_like(source)
    rate = 2 * source.numel() / setting.seconds(lambda: target.copy_(source)) / 1e9
    yield Figure(name="memory, bytes read and written", value=rate, unit="GB/s")
    if setting.device == "cuda":
        for pinned in (False, True):
            host = torch.empty(256 * 2**20, dtype=torch.uint8, pin_memory=pinned)
            rate = host.numel() / setting.seconds(partial(source[: host.numel()].copy_, host)) / 1e9
            yield Figure(name=f"host to device, {'pinned' if pinned else 'pageable'}", value=rate, unit="GB/s")


class ImagesOnDevice(DrawnImages):
    """Drawn images whose pixels are on the device, so that nothing but training is measured."""

    def __init__(self, num_images: int, num_classes: int, device: torch.device) -> None:
        super().__init__(64, num_classes)
        self.pixels = self.pixels.to(device)
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, Tensor | int]:
        return super().__getitem__(index % len(self.pixels))


def make_training(setting: Setting, shape: str, **options: bool) -> Training:
    """Return the ways of training a model, with the images on the device."""
    batch, steps = (4, 3) if setting.tiny else (BATCHES[shape], STEPS[shape])
    training = Training(shape, setting.device, batch, 1, quick=setting.tiny)
    training.num_steps = steps
    training.images = ImagesOnDevice(batch * steps, 8, torch.device(setting.device))
    training.options = {"dataloader_pin_memory": False, **options}
    return training


def train(setting: Setting) -> Figures:
    """`PaintTrainer` against a bare loop, both with bf16 autocast, fused AdamW, and pixels on the card."""
    peak = setting.peak()
    for shape in BATCHES:
        training = make_training(setting, shape)
        images = training.batch_size * (training.num_steps - 1)
        ways = {"bare": partial(training.bare, bf16=True), "ours": lambda t=training: t.trainer(bf16=True)[0]}
        runs: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(1 if setting.tiny else 3):
            for name, way in ways.items():
                runs[name].append(images / way().seconds)
        bare, ours = (statistics.median(found) for found in runs.values())
        overhead = statistics.median(b / o - 1 for b, o in zip(runs["bare"], runs["ours"], strict=True))
        job = Job(batch_size=training.batch_size, num_steps=1)
        predicted = training_seconds(clip_config(shape), card(), Plan(), job).total()
        yield Figure(
            name=f"{shape}, batch {training.batch_size}, bf16: PaintTrainer beside the bare loop",
            value=ours,
            unit="images/s",
            beside=bare,
            predicted=setting.predicted(job.batch_size / predicted),
            note=f"{overhead:+.1%}",
            **setting.goal(f"at most {MAX_OVERHEAD:.0%} slower", overhead <= MAX_OVERHEAD),
        )
        found = 3 * flops_per_image(training.model.config.vision_config) * ours / peak
        goal = setting.goal(f"at least {MIN_SHARE:.0%}", found >= MIN_SHARE) if shape == "ViT-L/14" else {}
        yield Figure(name=f"{shape}, training, share of matrix peak", value=found, **goal)
        memory = setting.memory(partial(training.trainer, bf16=True))
        expected = training_memory(clip_config(shape), card(), Plan(), job).total()
        yield Figure(
            name=f"{shape}, training, peak memory",
            value=memory / 1e9,
            unit="GB",
            predicted=setting.predicted(expected / 1e9),
        )
        if shape == "ViT-B/32":  # the activations of the larger one would not fit
            fp32 = images / training.trainer(bf16=False)[0].seconds
            yield Figure(name=f"{shape}, fp32 beside bf16", value=fp32, unit="images/s", beside=ours)


def card() -> Machine:
    """Return the preset for a card with as much memory as this one."""
    memory = torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
    return min((m for m in PRESETS if m.devices == 1), key=lambda machine: abs(machine.memory - memory))


class SyncWarnings(TrainerCallback):
    """Lets torch warn of everything that waits for the GPU, from the second step to the last but one."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 1:
            torch.cuda.set_sync_debug_mode("warn")

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == args.max_steps - 1:
            torch.cuda.set_sync_debug_mode("default")


def syncs(setting: Setting) -> Figures:
    """How often a training step and an evaluation wait for the GPU, and where."""
    batch, steps = 4, 12
    training = Training("ViT-B/32", setting.device, batch, steps, quick=True)
    training.callbacks = [SyncWarnings()] if setting.device == "cuda" else []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        training.trainer(bf16=True)
    places = waits(caught)
    found = sum(places.values()) / (steps - 2)
    yield Figure(name="waits for the GPU, per step", value=found, target="0", met=not found, note=str(places))
    yield from evaluation_syncs(setting)


def evaluation_syncs(setting: Setting) -> Figures:
    """How often the evaluation of a split waits for the GPU, whatever the number of batches."""
    jobs = Sweep("ViT-B/32", 40, (), device=setting.device, quick=True)
    prepared, numbers = jobs.prepare(), []
    for batch_size in (40, 4):
        evaluator = Evaluator(jobs.accelerator, batch_size=batch_size, precision="bf16")
        tower = evaluator.carrier(jobs.tower)
        evaluator.predict(tower, prepared, "test")
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if setting.device == "cuda":
                torch.cuda.set_sync_debug_mode("warn")
            evaluator.predict(tower, prepared, "test")
            if setting.device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
        numbers.append(waits(caught))
    one, ten = (sum(places.values()) for places in numbers)
    yield Figure(name="waits for the GPU, one batch", value=one, note=str(numbers[0]))
    yield Figure(
        name="waits for the GPU, ten batches", value=ten, target=f"{one} too", met=ten == one, note=str(numbers[1])
    )


def is_wait(message: str) -> bool:
    """Return whether torch warns of an operation that waits, and not of its debug mode being a prototype."""
    return "synchroniz" in message and "prototype" not in message


def waits(caught: list[warnings.WarningMessage]) -> dict[str, int]:
    """Count torch's warnings of synchronisation by their place in the code."""
    found = [f"{Path(w.filename).name}:{w.lineno}" for w in caught if is_wait(str(w.message))]
    return dict(Counter(found).most_common(8))


def lora(setting: Setting) -> Figures:
    """LoRA adapters for ViT-L/14: images per second and peak memory beside full training."""
    rate, memory = [], []
    for options in ({"use_peft": True}, {}):
        training, runs = make_training(setting, "ViT-L/14", **options), []
        memory.append(setting.memory(lambda ways=training, runs=runs: runs.append(ways.trainer(bf16=True)[0])) / 1e9)
        rate.append(training.batch_size * (training.num_steps - 1) / runs[0].seconds)
    yield Figure(name="ViT-L/14, LoRA beside all weights", value=rate[0], unit="images/s", beside=rate[1])
    yield Figure(name="ViT-L/14, LoRA, peak memory", value=memory[0], unit="GB", beside=memory[1])


def compile(setting: Setting) -> Figures:
    """`torch_compile` in training: images per second, the time it takes once, and the number of graphs."""
    from torch._dynamo.utils import counters

    for shape in ("ViT-B/32",) if setting.tiny else BATCHES:
        training = make_training(setting, shape, torch_compile=True)
        images = training.batch_size * (training.num_steps - 1)
        eager = images / make_training(setting, shape).trainer(bf16=True)[0].seconds
        counters.clear()
        start = now(training.device)
        steps = training.trainer(bf16=True)[0].seconds
        whole = now(training.device) - start
        graphs = counters["stats"]["unique_graphs"]
        yield Figure(name=f"{shape}, compiled", value=images / steps, unit="images/s", beside=eager)
        yield Figure(name=f"{shape}, compiling, once", value=whole - steps, unit="s", note=f"{graphs} graphs")
