"""The GPU check of evaluation: a sweep against a plain loop, zero-shot heads, and the choice of precision."""

import time
from functools import partial
from unittest.mock import patch

import torch
from accelerate import Accelerator
from gpu_figures import Figure, Figures, Setting
from gpu_training import card
from head import plain_head
from inputs import fine_tuned, make_clip, make_processor
from machines import Job
from simulation import prompt_rate, sweep_memory, sweep_seconds
from sweep import Sweep
from torch._dynamo.utils import counters
from torch.utils.data import Subset
from towers import COMBINE_BYTES, clip_config, flops_per_image, image_parameters

from hf_paint import build_zero_shot_head, get_task
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.precision import compare_precisions
from hf_paint.merging.path import Line
from hf_paint.models.compilation import compile_blocks
from hf_paint.models.towers import image_tower


MIN_SPEEDUP, MIN_SHARE = 3.0, 0.5


def sweep(setting: Setting) -> Figures:
    """Eleven alphas in bf16, with and without compiled blocks, beside the plain loop on a part of the images."""
    peak = setting.peak()
    for shape in setting.shapes:
        jobs = Sweep(shape, 8 if setting.tiny else 2000, (), device=setting.device, quick=setting.tiny)
        images = len(jobs.images)
        decoding = setting.once(jobs.prepare)
        yield Figure(
            name=f"{shape}, decoding {images} images once",
            value=images / decoding,
            unit="images/s",
            predicted=setting.predicted(card().decoding),
        )
        plain = plain_rate(setting, jobs)
        for compiled in (False, True):
            yield from one_sweep(setting, shape, jobs, peak, plain, compiled=compiled)
        if shape == "ViT-B/32":
            jobs.alphas = alphas(setting, compiled=True)
            count = images * len(jobs.alphas)
            whole = count / setting.once(partial(jobs.ours, jobs.evaluator("bf16")))
            job = Job(num_alphas=len(jobs.alphas), num_images=images)
            parts = sweep_seconds(clip_config(shape), card(), job)._replace(disk=0, hashing=0)
            yield Figure(
                name=f"{shape}, the whole sweep with decoding, beside the plain loop",
                value=whole,
                unit="images/s",
                beside=plain,
                predicted=setting.predicted(count / parts.total()),
                **setting.goal(f"at least {MIN_SPEEDUP:g}x", whole >= MIN_SPEEDUP * plain),
            )


def alphas(setting: Setting, *, compiled: bool) -> list[float]:
    """Return the alphas of a sweep: fewer where it is slower."""
    number = 2 if setting.tiny else 11 if compiled else 4
    return [step / (number - 1) for step in range(number)]


def plain_rate(setting: Setting, jobs: Sweep) -> float:
    """Return the images per second of the plain loop with bf16 autocast, on two alphas and some of the images."""
    whole, jobs.alphas = jobs.images, [0.3, 0.6]
    jobs.images = Subset(whole, range(min(len(whole), 1000)))
    with torch.autocast(setting.device, torch.bfloat16):
        seconds = setting.once(jobs.plain)
    count, jobs.images = 2 * len(jobs.images), whole
    return count / seconds


def one_sweep(setting: Setting, shape: str, jobs: Sweep, peak: float, plain: float, *, compiled: bool) -> Figures:
    """A sweep over images that are decoded, once they have been read: rate, share of the peak, waits."""
    name = f"{shape}, sweep, {'compiled' if compiled else 'eager'}"
    prepared, evaluator = jobs.prepare(), jobs.evaluator("bf16", compile=compiled)
    evaluator.batch_size = 4 if setting.tiny else None
    with patch("hf_paint.evaluation.evaluator.compile_blocks", partial(compile_blocks, backend=setting.backend)):
        carrier = Carrier(Line(jobs.theta_0, jobs.theta_1), jobs.tower, evaluator)
    counters.clear()
    jobs.alphas = [0.5]
    first, again = (setting.once(partial(jobs.along, carrier, evaluator, prepared)) for _ in range(2))
    if compiled:
        yield Figure(name=f"{name}: compiling, once", value=first - again, unit="s")
    jobs.alphas = alphas(setting, compiled=compiled)
    count = len(jobs.images) * len(jobs.alphas)
    rate = count / setting.once(partial(jobs.along, carrier, evaluator, prepared))
    job = Job(num_alphas=len(jobs.alphas), num_images=len(jobs.images))
    parts = sweep_seconds(clip_config(shape), card(), job, compiled=compiled)
    seconds = parts._replace(disk=0, hashing=0, decoding=0).total()
    size = evaluator.images_at_once(jobs.tower)
    yield Figure(
        name=f"{name}, {count} images, batch {size}, beside a plain loop with bf16 autocast",
        value=rate,
        unit="images/s",
        beside=plain,
        predicted=setting.predicted(count / seconds),
        **setting.goal(f"at least {MIN_SPEEDUP:g}x", rate >= MIN_SPEEDUP * plain),
    )
    found = flops_per_image(jobs.tower.config) * rate / peak
    goal = setting.goal(f"at least {MIN_SHARE:.0%}", found >= MIN_SHARE) if shape == "ViT-L/14" and compiled else {}
    yield Figure(name=f"{name}, share of matrix peak", value=found, **goal)
    if compiled:
        graphs = counters["stats"]["unique_graphs"]
        yield Figure(name=f"{name}, graphs", value=graphs, target="1", met=graphs == 1)
        yield from between(setting, shape, carrier)


def between(setting: Setting, shape: str, carrier: Carrier) -> Figures:
    """The time of changing alpha, and where the ends of the line are."""
    alphas = iter([step / 1000 for step in range(1000)])
    seconds = setting.seconds(lambda: carrier.at(next(alphas)))
    config = clip_config(shape).vision_config
    places = {str(x.device.type) for theta in carrier.path.inputs for x in theta.values()}
    yield Figure(
        name=f"{shape}, from one alpha to the next",
        value=1000 * seconds,
        unit="ms",
        predicted=setting.predicted(1000 * COMBINE_BYTES * image_parameters(config) / card().elementwise),
        note=f"ends on {places}",
    )


def head(setting: Setting) -> Figures:
    """ImageNet's zero-shot head on the device: all prompts, against one class at a time on a few."""
    task = get_task("imagenet")
    names, templates = list(task.class_names), list(task.templates)
    if setting.tiny:
        names, templates = names[:4], templates[:4]
    prompts = [template.replace("{}", name) for name in names for template in templates]
    processor = make_processor(prompts)
    model = make_clip(setting.shape("ViT-B/32"), processor, only="text", quick=setting.tiny).to(setting.device)
    some = processor.tokenizer(prompts[:: max(1, len(prompts) // 500)]).input_ids
    num_tokens = sum(map(len, some)) / len(some)
    weights = {}
    for precision in ("fp32", "bf16"):
        start = time.perf_counter()
        found = build_zero_shot_head(model, processor.tokenizer, names, templates, precision=precision)
        weights[precision] = found.weight
        rate = len(prompts) / (time.perf_counter() - start)
        predicted = prompt_rate(clip_config("ViT-B/32"), card(), num_tokens, bf16=precision == "bf16")
        yield Figure(
            name=f"ViT-B/32 head, {len(prompts)} prompts, {precision}",
            value=rate,
            unit="prompts/s",
            predicted=setting.predicted(predicted),
        )
    few = names[:: len(names) // 4][:4]
    rows: list[torch.Tensor] = []
    with torch.device(setting.device):
        seconds = setting.seconds(lambda: rows.append(plain_on(model, processor, few, templates)))
    yield Figure(name="the plain way, fp32", value=len(few) * len(templates) / seconds, unit="prompts/s")
    difference = float((rows[-1].cpu() - weights["fp32"][[names.index(name) for name in few]]).abs().max())
    yield Figure(name="largest difference in fp32", value=difference, target="at most 1e-5", met=difference <= 1e-5)


def plain_on(model, processor, names, templates):
    """`plain_head` with a tokenizer that puts tokens on the model's device."""

    def tokenize(*args, **options):
        return processor.tokenizer(*args, **options).to(model.device)

    return plain_head(model, tokenize, names, templates)


def precision(setting: Setting) -> Figures:
    """`precision: auto`: what it measures and what it costs."""
    jobs = Sweep(setting.shape("ViT-L/14"), 8 if setting.tiny else 250, (), device=setting.device, quick=setting.tiny)
    prepared = jobs.prepare()
    evaluator = Evaluator(Accelerator(cpu=setting.device == "cpu"))
    start = time.perf_counter()
    check = compare_precisions([image_tower(jobs.model)], [prepared], evaluator)
    yield Figure(name="ViT-L/14, precision auto", value=time.perf_counter() - start, unit="s", note=str(check))
    config, size = clip_config("ViT-L/14"), {"batch_size": 128, "group": 128}
    line = Line(jobs.theta_0, fine_tuned(jobs.theta_0))
    evaluator = evaluator.with_precision("bf16")

    def run() -> None:
        evaluator.predict(Carrier(line, jobs.tower, evaluator).at(0.5), prepared, "test")

    memory = setting.memory(run)
    predicted = sweep_memory(config, card(), **size).total() / 1e9
    yield Figure(
        name="ViT-L/14, sweep, peak memory", value=memory / 1e9, unit="GB", predicted=setting.predicted(predicted)
    )
