"""Short patching runs of the tiny CLIP."""

from pathlib import Path

from safetensors.torch import load_file

from hf_paint import PaintTrainingArguments, patch_joint, patch_parallel, patch_sequential
from hf_paint.patching.options import PatchOptions


ALPHAS = [0.0, 0.25, 0.5, 1.0]


def arguments(folder, **keys):
    defaults = {"learning_rate": 1e-3, "max_steps": 8, "warmup_steps": 2, "per_device_train_batch_size": 16}
    defaults |= {"save_steps": 4, "use_cpu": True, "disable_tqdm": True}
    return PaintTrainingArguments(output_dir=str(folder), **(defaults | keys))


def weights(folder):
    return load_file(Path(folder) / "model.safetensors")


def parallel(model_folder, tasks, folder, **options):
    options, rule = PatchOptions(search_budget=10, **options), {"alphas": [0.0, 0.5, 1.0], "selection": "mean"}
    return patch_parallel(model_folder, tasks[:2], [tasks[2]], arguments(folder), options=options, **rule)


def sequential(model_folder, tasks, folder, **keys):
    keys = {"alphas": ALPHAS, "selection": "mean"} | keys
    return patch_sequential(model_folder, tasks[:2], [tasks[2]], arguments(folder), **keys)


def joint(model_folder, tasks, folder):
    return patch_joint(model_folder, tasks[:2], [tasks[2]], arguments(folder), alphas=ALPHAS, selection="mean")
