"""Folder-to-folder interpolation, timed as whole processes: ours against pickles, transformers and mergekit.

    python tests/benchmarks/interpolation.py [--rounds 5] [--threads N] [--quick] [--json FILE]

Needs 16 GB of disk in TMPDIR. The released code of the papers reads and writes pickles.
"""

import json
import os
import shutil
import sys
from functools import partial
from pathlib import Path

import torch
from common import FOLDER, Row, Run, Target, arguments, child, compare, interleave, report, seconds
from inputs import fine_tuned, make_clip
from safetensors.torch import load_file

from hf_paint import interpolate


PICKLES = """
import sys
import torch

theta_0, theta_1, output, *alphas = sys.argv[1:]
zero_shot, model = (torch.load(f"{folder}/model.pt", weights_only=False) for folder in (theta_0, theta_1))
theta_0 = {name: tensor.clone() for name, tensor in zero_shot.state_dict().items()}
theta_1 = {name: tensor.clone() for name, tensor in model.state_dict().items()}
for alpha in alphas:
    theta = {name: (1 - float(alpha)) * theta_0[name] + float(alpha) * theta_1[name] for name in theta_0}
    model.load_state_dict(theta)
    torch.save(model, f"{output}/{alpha}.pt")
"""
TRANSFORMERS = """
import sys
import torch
from transformers import CLIPModel

theta_0, theta_1, output, *alphas = sys.argv[1:]
model, theta_1 = CLIPModel.from_pretrained(theta_0), CLIPModel.from_pretrained(theta_1).state_dict()
for alpha in alphas:
    theta = {name: torch.lerp(tensor, theta_1[name], float(alpha)) for name, tensor in model.state_dict().items()}
    model.save_pretrained(f"{output}/{alpha}", state_dict=theta)
"""
ELEVEN = [f"{step / 10:.1f}" for step in range(11)]
Folders = tuple[Path, Path]
Weights = dict[str, torch.Tensor]


def main() -> None:
    """Measure B/32 with one alpha and eleven, L/14 with one alpha, and B/32 in memory."""
    parsed = arguments(__doc__)
    others = ["pickles", "transformers", *(["mergekit"] if shutil.which("mergekit-pytorch") else [])]
    one, eleven, rows = Target(speedup=15, aim=20, mib=100), Target(speedup=4, mib=150), []
    for shape in ("ViT-B/32", "ViT-L/14"):
        folders = write_models(shape, quick=parsed.quick)
        job = f"interpolate {shape}{', two layers' if parsed.quick else ''}"
        if shape == "ViT-B/32":
            rows += on_disk(f"{job}, on disk, one alpha", folders, ["0.3"], others, parsed.rounds, one)
            rows += on_disk(f"{job}, on disk, 11 alphas", folders, ELEVEN, others[:1], parsed.rounds, eleven)
            rows += in_memory(f"{job}, in memory, one alpha", folders, parsed.rounds)
        else:
            rows += on_disk(f"{job}, on disk, one alpha", folders, ["0.3"], others[:1], parsed.rounds, one)
        for folder in folders:
            shutil.rmtree(folder)
    report(rows, parsed)


def write_models(shape: str, *, quick: bool) -> Folders:
    """Save a model before and after fine-tuning, each as safetensors and as a pickle."""
    model = make_clip(shape, quick=quick)
    folders = FOLDER / "theta_0", FOLDER / "theta_1"
    for folder in folders:
        model.save_pretrained(folder)
        torch.save(model, folder / "model.pt")
        model.load_state_dict(fine_tuned(model.state_dict()))
    return folders


def on_disk(
    job: str, folders: Folders, alphas: list[str], others: list[str], rounds: int, target: Target
) -> list[Row]:
    """Measure whole processes: ours, and each of the others."""
    runs = interleave({way: partial(run, way, folders, alphas) for way in [*others, "hf_paint"]}, rounds)
    rows = []
    for other in others:
        difference = max(largest_difference(read(other, alpha), read("hf_paint", alpha)) for alpha in alphas)
        against = f"{job}, against {other}"
        rows.append(compare(against, runs[other], runs["hf_paint"], difference=difference, target=target))
        shutil.rmtree(output_of(other))
    shutil.rmtree(output_of("hf_paint"))
    return rows


def in_memory(job: str, folders: Folders, rounds: int) -> list[Row]:
    """Measure an explicit weighted sum against `interpolate`."""
    theta_0, theta_1 = (load_file(folder / "model.safetensors") for folder in folders)

    def plain() -> Weights:
        return {name: (1 - 0.3) * theta_0[name] + 0.3 * theta_1[name] for name in theta_0}

    def ours() -> Weights:
        return interpolate(theta_0, theta_1, 0.3)

    difference = largest_difference(plain(), ours())
    runs = interleave({"plain": partial(seconds, plain), "ours": partial(seconds, ours)}, rounds)
    return [compare(job, runs["plain"], runs["ours"], difference=difference)]


def run(way: str, folders: Folders, alphas: list[str]) -> Run:
    """Run one implementation, which writes new files to an idle disk."""
    shutil.rmtree(output_of(way), ignore_errors=True)
    output_of(way).mkdir()
    os.sync()
    return child(command(way, folders, alphas))


def command(way: str, folders: Folders, alphas: list[str]) -> list[str]:
    """Return one implementation's command."""
    ends, output = [str(folder) for folder in folders], str(output_of(way))
    if way == "hf_paint":
        start = [sys.executable, "-m", "hf_paint.cli", "interpolate", *ends]
        return [*start, "--alphas", *alphas, "--output_dir", output]
    if way == "mergekit":
        [alpha] = map(float, alphas)
        files = [f"{folder}/model.safetensors" for folder in ends]
        weights = [{"weight": 1 - alpha}, {"weight": alpha}]
        models = [{"model": file, "parameters": weight} for file, weight in zip(files, weights, strict=True)]
        config = FOLDER / "mergekit.yaml"
        config.write_text(json.dumps({"merge_method": "linear", "dtype": "float32", "models": models}))
        return [str(shutil.which("mergekit-pytorch")), str(config), output]
    return [sys.executable, "-c", {"pickles": PICKLES, "transformers": TRANSFORMERS}[way], *ends, output, *alphas]


def output_of(way: str) -> Path:
    """Return one implementation's output path."""
    return FOLDER / way


def read(way: str, alpha: str) -> Weights:
    """Read one implementation's output for one alpha."""
    if way == "pickles":
        return torch.load(output_of(way) / f"{alpha}.pt", weights_only=False).state_dict()
    folder = {"hf_paint": f"alpha-{float(alpha):.2f}", "transformers": alpha, "mergekit": "."}[way]
    return load_file(output_of(way) / folder / "model.safetensors")


def largest_difference(plain: Weights, ours: Weights) -> float:
    """Return the largest difference in any element of any tensor."""
    return max(float((tensor - ours[name]).abs().max()) for name, tensor in plain.items())


if __name__ == "__main__":
    main()
