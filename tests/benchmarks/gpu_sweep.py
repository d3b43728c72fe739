"""The GPU check of evaluation: a sweep against a plain loop, zero-shot heads, and the choice of precision."""

import time
from functools import partial

import torch
from accelerate import Accelerator
from gpu_figures import Figure, Figures, Setting
from gpu_training import card
from head import plain_head
from machines import Job
from material import fine_tuned, make_clip, make_processor
from simulation import sweep_memory, sweep_seconds
from sweep import Sweep
from towers import clip_config, flops_per_image

from hf_paint import build_zero_shot_head, get_task
from hf_paint.evaluation.carrier import Carrier
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.precision import compare_precisions
from hf_paint.merging.path import Line
from hf_paint.models.towers import image_tower


MIN_SPEEDUP, MIN_SHARE = 3.0, 0.5


def sweep(setting: Setting) -> Figures:
    """Eleven alphas, ours in bf16, against the plain loop in fp32 and bf16 on two of them."""
    peak = setting.peak()
    for shape in ("ViT-B/32", "ViT-L/14"):
        jobs = Sweep(shape, 8 if setting.tiny else 2000, (), device=setting.device, quick=setting.tiny)
        jobs.alphas = [step / 10 for step in range(3 if setting.tiny else 11)]
        images = len(jobs.images)
        decoding = setting.once(jobs.prepare)
        yield Figure(name=f"{shape}, decoding {images} images once", value=images / decoding, unit="images/s")
        prepared, evaluator = jobs.prepare(), jobs.evaluator("bf16")
        carrier = Carrier(Line(jobs.theta_0, jobs.theta_1), jobs.tower, evaluator)
        evaluator.predict(carrier.at(0.0), prepared, "test")  # warms up
        ours = setting.once(partial(jobs.along, carrier, evaluator, prepared))
        count = images * len(jobs.alphas)
        predicted = sweep_seconds(
            clip_config(shape), card(), Job(num_alphas=len(jobs.alphas), num_images=images)
        ).total()
        whole = setting.once(partial(jobs.ours, evaluator))
        jobs.alphas = jobs.alphas[1:3]
        plain = setting.once(jobs.plain) / 2 if shape == "ViT-B/32" or setting.tiny else None
        with torch.autocast(setting.device, torch.bfloat16):
            half = setting.once(jobs.plain) / 2
        rate, beside = count / ours, images / half
        yield Figure(
            name=f"{shape}, sweep of {count} images, decoded before, beside a plain loop with bf16 autocast",
            value=rate,
            unit="images/s",
            beside=beside,
            predicted=setting.predicted(count / predicted),
        )
        if plain:
            yield Figure(name=f"{shape}, plain loop in fp32", value=images / plain, unit="images/s")
        speedup = half * count / images / whole
        yield Figure(
            name=f"{shape}, the same with decoding, times as fast as the plain loop with bf16 autocast",
            value=speedup,
            **setting.goal(f"at least {MIN_SPEEDUP:g}", speedup >= MIN_SPEEDUP),
        )
        found = flops_per_image(jobs.tower.config) * rate / peak
        goal = setting.goal(f"at least {MIN_SHARE:.0%}", found >= MIN_SHARE) if shape == "ViT-L/14" else {}
        yield Figure(name=f"{shape}, sweep, share of matrix peak", value=found, **goal)
        yield from between(setting, shape, carrier)


def between(setting: Setting, shape: str, carrier: Carrier) -> Figures:
    """The time of changing alpha, and where the ends of the line are."""
    alphas = iter([step / 1000 for step in range(1000)])
    seconds = setting.seconds(lambda: carrier.at(next(alphas)))
    places = {str(x.device.type) for theta in carrier.path.inputs for x in theta.values()}
    yield Figure(
        name=f"{shape}, from one alpha to the next", value=1000 * seconds, unit="ms", note=f"ends on {places}"
    )


def head(setting: Setting) -> Figures:
    """ImageNet's zero-shot head on the device: all prompts, against one class at a time on a few."""
    task = get_task("imagenet")
    names, templates = list(task.class_names), list(task.templates)
    if setting.tiny:
        names, templates = names[:4], templates[:4]
    prompts = [template.replace("{}", name) for name in names for template in templates]
    processor = make_processor(prompts)
    model = make_clip("ViT-B/32", processor, only="text", quick=setting.tiny).to(setting.device)
    weights = {}
    for precision in ("fp32", "bf16"):
        start = time.perf_counter()
        found = build_zero_shot_head(model, processor.tokenizer, names, templates, precision=precision)
        weights[precision] = found.weight
        rate = len(prompts) / (time.perf_counter() - start)
        yield Figure(name=f"ViT-B/32 head, {len(prompts)} prompts, {precision}", value=rate, unit="prompts/s")
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
    jobs = Sweep("ViT-L/14", 8 if setting.tiny else 250, (), device=setting.device, quick=setting.tiny)
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
