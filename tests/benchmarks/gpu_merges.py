"""The GPU check of merging: the same results as on the CPU, and how long they take."""

from collections.abc import Callable, Mapping
from functools import partial

import torch
from common import FOLDER
from counted import counted
from gpu_figures import Figure, Figures, Setting
from gpu_training import card
from inputs import fine_tuned, make_clip
from torch import Tensor
from towers import flops_per_image
from transformers import TrainerControl, TrainerState

from hf_paint import ZeroShotHead, dare, extract_lora, ties, uniform_soup
from hf_paint.merging.averaging import EMACallback
from hf_paint.merging.fisher import estimate_fisher
from hf_paint.models.towers import image_tower, image_tower_weights


Weights = Mapping[str, Tensor]
ROUNDING = 1e-5


def merges(setting: Setting) -> Figures:
    """Soups, TIES, DARE and LoRA extraction of three ViT-B/32 towers, the Fisher information, and EMA.

    The results are compared with those on the CPU for two layers, and all layers are timed on the device.
    """
    small = make_clip("ViT-B/32", only="neither" if setting.tiny else "vision", quick=True)
    model = small if setting.tiny else make_clip("ViT-B/32", only="vision")
    theta_0 = {name: x.clone() for name, x in image_tower_weights(small).items()}
    thetas = {name: fine_tuned(theta_0) for name in "abc"}
    whole_0 = to(image_tower_weights(model), setting)
    wholes = {name: fine_tuned(whole_0) for name in "abc"}
    ways: dict[str, Callable[[Weights, Mapping[str, Weights]], Weights]] = {
        "uniform soup": lambda _, thetas: uniform_soup(thetas),
        "TIES": lambda theta_0, thetas: ties(theta_0, thetas),
        "DARE": lambda theta_0, thetas: dare(theta_0, thetas),
    }
    there = to(theta_0, setting), {name: to(theta, setting) for name, theta in thetas.items()}
    for name, way in ways.items():
        merged = way(*there)
        expected: list[Weights] = []
        counts = counted(lambda way=way, expected=expected: expected.append(way(theta_0, thetas)))
        difference = largest_difference(expected[0], merged)
        here = setting.once(partial(way, theta_0, thetas))
        yield Figure(
            name=f"{name} of 3 ViT-B/32, two layers, beside the CPU",
            value=setting.seconds(partial(way, *there)),
            unit="s",
            beside=here,
            predicted=setting.predicted(counts.seconds(card())),
            target=f"equal within {ROUNDING:g}",
            met=difference <= ROUNDING,
            note=f"difference {difference:.1e}",
        )
        larger = sum(x.numel() for x in whole_0.values()) / sum(x.numel() for x in theta_0.values())
        yield Figure(
            name=f"{name} of 3 ViT-B/32",
            value=setting.once(partial(way, whole_0, wholes)),
            unit="s",
            predicted=setting.predicted(counts.seconds(card(), larger=larger, more=len(whole_0) / len(theta_0))),
        )
    yield from extraction(setting, there[0], there[1]["a"], theta_0, thetas["a"])
    yield from fisher(setting, model)
    yield from averaging(setting, model)


def to(theta: Weights, setting: Setting) -> dict[str, Tensor]:
    """Return a copy on the device."""
    return {name: x.to(setting.device) for name, x in theta.items()}


def largest_difference(expected: Weights, found: Weights) -> float:
    """Return the largest difference relative to the norm of the expected tensor."""
    return max(float((found[name].cpu() - x).norm() / x.norm().clamp(min=1e-12)) for name, x in expected.items())


def extraction(setting: Setting, theta_0: Weights, theta_1: Weights, cpu_0: Weights, cpu_1: Weights) -> Figures:
    """LoRA extraction: the SVD of every linear layer."""
    kept = []
    extract = partial(extract_lora, ranks=[16], output_dir=FOLDER / "lora", overwrite=True)
    seconds = setting.once(lambda: kept.append(extract(theta_0, theta_1)))
    here = setting.once(lambda: kept.append(extract(cpu_0, cpu_1)))
    difference = abs(kept[0].kept[16] - kept[1].kept[16])
    yield Figure(
        name="LoRA extraction (SVDs), rank 16, ViT-B/32, two layers, beside the CPU",
        value=seconds,
        unit="s",
        beside=here,
        target="same share kept within 1e-4",
        met=difference <= 1e-4,
        note=f"keeps {kept[0].kept[16]:.4f}",
    )


def fisher(setting: Setting, model: torch.nn.Module) -> Figures:
    """The Fisher information of a ViT-B/32, per image, and beside the CPU on two images."""
    number, size = (2, 224) if setting.tiny else (64, 224)
    tower = image_tower(model)
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randn(number, 3, size, size, generator=generator)
    weight = torch.nn.functional.normalize(torch.randn(10, 512, generator=generator), dim=-1)
    head = ZeroShotHead(weight, torch.tensor(10.0))
    expected = estimate_fisher(tower.cpu(), head, [pixels[:2]])
    tower.to(setting.device)
    there = head.to(setting.device)
    found = estimate_fisher(tower, there, [pixels[:2].to(setting.device)])
    difference = largest_difference(expected, found)
    yield Figure(
        name="Fisher of 2 images, beside the CPU", value=difference, target="at most 1e-3", met=difference <= 1e-3
    )
    for chunk in (2, 16):
        way = partial(estimate_fisher, tower, there, [pixels.to(setting.device)], chunk_size=chunk)
        rate = number / setting.seconds(way, rounds=1)
        products = 3 * flops_per_image(tower.config)  # forward and backward, in float32
        predicted = setting.predicted(card().matrix_fp32 / products)
        yield Figure(name=f"Fisher, {chunk} images at once", value=rate, unit="images/s", predicted=predicted)


def averaging(setting: Setting, model: torch.nn.Module) -> Figures:
    """One step of EMA in float64 on the device."""
    callback, state = EMACallback(), TrainerState(max_steps=10)
    arguments = type("Arguments", (), {"load_best_model_at_end": False, "device": setting.device})()
    callback.on_train_begin(arguments, state, TrainerControl())

    def step() -> None:
        state.global_step += 1
        callback.on_step_end(arguments, state, TrainerControl(), model=image_tower(model))

    step()
    yield Figure(name="EMA, one step of a ViT-B/32", value=1000 * setting.seconds(step), unit="ms")
