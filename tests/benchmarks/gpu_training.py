"""The GPU check of training: rates of the card, steps against a bare loop, the input pipeline, LoRA, compilation."""

import warnings
from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from gpu_figures import Figure, Figures, Setting
from inputs import DrawnImages
from machines import PRESETS, Job, Machine, Plan
from simulation import training_memory, training_rate
from sweep import Sweep
from torch import Tensor
from torch._dynamo.utils import counters
from towers import clip_config, flops_per_image
from transformers import TrainerCallback

from hf_paint.evaluation.evaluator import Evaluator
from training import Training, now


BATCHES = {"ViT-B/32": 512, "ViT-L/14": 128}
STEPS = {"ViT-B/32": 20, "ViT-L/14": 10}
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
    """One batch of drawn images on the device, again and again, so that nothing but training is measured."""

    def __init__(self, batch_size: int, num_images: int, num_classes: int, device: torch.device) -> None:
        super().__init__(64, num_classes)
        copies = -(-batch_size // 64)
        self.batch = {
            "pixel_values": self.pixels.repeat(copies, 1, 1, 1)[:batch_size].to(device),
            "labels": self.labels.repeat(copies)[:batch_size].to(device),
        }
        self.num_images = num_images

    def __len__(self) -> int:
        return self.num_images

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        return {name: x[: len(indices)] for name, x in self.batch.items()}


def make_training(setting: Setting, shape: str, **options: bool | str) -> Training:
    """Return the ways of training a model, with the images on the device."""
    batch, steps = (4, 3) if setting.tiny else (BATCHES[shape], STEPS[shape])
    training = Training(shape, setting.device, batch, 1, quick=setting.tiny)
    training.num_steps = steps
    training.images = ImagesOnDevice(batch, batch * steps, 8, torch.device(setting.device))
    training.options = {"dataloader_pin_memory": False, "torch_compile": False, **options}
    return training


def train(setting: Setting) -> Figures:
    """`PaintTrainer` beside a bare loop, with and without compiled blocks: bf16 autocast, pixels on the card."""
    yield from train_shape(setting, setting.shape("ViT-L/14"))


def train_small(setting: Setting) -> Figures:
    """The same for a ViT-B/32, whose steps are so short that what the Trainer adds may show; and in float32."""
    training = yield from train_shape(setting, setting.shape("ViT-B/32"))
    if not setting.tiny:
        training.num_steps = 6
        training.options |= {"torch_compile": False, "torch_compile_backend": None}
        images = training.batch_size * (training.num_steps - 1)
        fp32 = images / training.trainer(bf16=False)[0].seconds
        exact = replace(card(), matrix=card().matrix_fp32)
        predicted = setting.predicted(training_rate(clip_config("ViT-B/32"), exact, Plan(), training.batch_size))
        yield Figure(name="ViT-B/32, training in fp32", value=fp32, unit="images/s", predicted=predicted)


def train_shape(setting: Setting, shape: str) -> Generator[Figure, None, Training]:
    """Train eagerly and compiled; return the ways of training."""
    peak, training = setting.peak(), make_training(setting, shape)
    for compiled in (False, True):
        yield from train_once(setting, shape, training, peak, compiled=compiled)
    return training


def train_once(setting: Setting, shape: str, training: Training, peak: float, *, compiled: bool) -> Figures:
    """Steps beside those of a bare loop, their share of the peak, memory, and what compiling takes."""
    name = f"{shape}, training, {'compiled' if compiled else 'eager'}"
    training.options |= {"torch_compile": compiled, "torch_compile_backend": setting.backend if compiled else None}
    images = training.batch_size * (training.num_steps - 1)
    counters.clear()
    start = now(training.device)
    memory = setting.memory(partial(training.trainer, bf16=True))
    first = now(training.device) - start
    ways = {
        "bare": partial(training.bare, bf16=True, compiled=compiled and not setting.tiny),
        "ours": lambda: training.trainer(bf16=True)[0],
    }
    runs: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(1 if setting.tiny else 2):
        for way, run in ways.items():
            start = now(training.device)
            runs[way].append(images / run().seconds)
    again = now(training.device) - start
    bare, ours = (max(found) for found in runs.values())
    job, plan = Job(batch_size=training.batch_size, num_steps=1), Plan(compiled=compiled)
    predicted = training_rate(clip_config(shape), card(), plan, job.batch_size)
    yield Figure(
        name=f"{name}, batch {training.batch_size}: PaintTrainer beside the bare loop",
        value=ours,
        unit="images/s",
        beside=bare,
        predicted=setting.predicted(predicted),
        note=f"{bare / ours - 1:+.1%}",
        **setting.goal(f"at most {MAX_OVERHEAD:.0%} slower", bare / ours - 1 <= MAX_OVERHEAD),
    )
    found = 3 * flops_per_image(training.model.config.vision_config) * ours / peak
    goal = setting.goal(f"at least {MIN_SHARE:.0%}", found >= MIN_SHARE) if shape == "ViT-L/14" and compiled else {}
    yield Figure(name=f"{name}, share of matrix peak", value=found, **goal)
    expected = None if compiled else training_memory(clip_config(shape), card(), plan, job).total() / 1e9
    yield Figure(
        name=f"{name}, peak memory",
        value=memory / 1e9,
        unit="GB",
        predicted=None if expected is None else setting.predicted(expected),
    )
    if compiled:
        graphs = counters["stats"]["unique_graphs"]
        yield Figure(name=f"{name}: compiling, once", value=first - again, unit="s", note=f"{graphs} graphs")


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
    training = Training(setting.shape("ViT-B/32"), setting.device, batch, steps, quick=True)
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
    jobs = Sweep(setting.shape("ViT-B/32"), 40, (), device=setting.device, quick=True)
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
    """LoRA adapters, eager and compiled: images per second and peak memory beside full training."""
    shape = setting.shapes[0]
    compiled = {"torch_compile": True, "torch_compile_backend": setting.backend}
    ways = {"all weights": {}, "LoRA": {"use_peft": True}, "LoRA, compiled": {"use_peft": True, **compiled}}
    plans = {
        "all weights": Plan(),
        "LoRA": Plan(lora_rank=16),
        "LoRA, compiled": Plan(lora_rank=16, compiled=True),
    }
    rates: dict[str, float] = {}
    for name, options in ways.items():
        training, runs = make_training(setting, shape, **options), []
        counters.clear()
        memory = setting.memory(lambda ways=training, runs=runs: runs.append(ways.trainer(bf16=True)[0])) / 1e9
        rates[name] = training.batch_size * (training.num_steps - 1) / runs[0].seconds
        yield Figure(
            name=f"{shape}, {name}",
            value=rates[name],
            unit="images/s",
            beside=rates["all weights"],
            predicted=setting.predicted(training_rate(clip_config(shape), card(), plans[name], training.batch_size)),
            note=f"{memory:.1f} GB, {counters['stats']['unique_graphs']} graphs",
        )
        del training
