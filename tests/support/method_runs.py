"""Short runs with merging methods, and the formulas they are compared with."""

from pathlib import Path

import torch
from safetensors.torch import load_file

from hf_paint import PatchOptions, patch_single
from hf_paint.data.splits import load_splits
from hf_paint.models.loading import load_clip
from hf_paint.weights.layers import IMAGE_TOWER
from patch_runs import arguments


ALPHAS = [0.0, 0.5, 1.0]
INGREDIENTS = [{"learning_rate": [1e-3, 3e-3]}, {"seed": 1}]
NAMES = ["learning_rate=0.001", "learning_rate=0.003", "seed=1"]
SHORT = {"max_steps": 3, "warmup_steps": 1}


def patch(model_folder, tasks, folder, *, alphas=ALPHAS, selection="mean", args=SHORT, **options):
    return patch_single(
        model_folder,
        tasks[0],
        [tasks[1]],
        arguments(folder, **args),
        alphas=alphas,
        selection=selection,
        options=PatchOptions(**options),
    )


def tower(folder):
    """The image tower in float64, read by safetensors alone."""
    stored = load_file(Path(folder) / "model.safetensors")
    return {name: x.double() for name, x in stored.items() if name.startswith(IMAGE_TOWER) and x.is_floating_point()}


def assert_close(folder, expected):
    found = tower(folder)
    assert found.keys() == expected.keys()
    for name, x in expected.items():
        torch.testing.assert_close(found[name], x.double(), rtol=0, atol=1e-6)


def mean(x_0, parts):
    return torch.stack(parts).mean(dim=0)


def total(x_0, parts):
    return x_0 + sum(x - x_0 for x in parts)


def by_transformers(folder, task, split):
    """Count the correct images of a split with plain transformers."""
    model, processor, _ = load_clip(str(folder))
    rows = load_splits(task, (split,))[split]
    prompts = [task.templates[0].format(name) for name in rows.class_names]
    inputs = processor(text=prompts, images=list(rows.rows["image"]), return_tensors="pt", padding=True)
    with torch.no_grad():
        predicted = model(**inputs).logits_per_image.argmax(-1).numpy()
    return int((predicted == rows.labels()).sum())
