"""The part of a recipe that a card shows."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from hf_paint.card_source import CardSource


PUBLIC_KEYS = (
    *("model", "strategy", "patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks"),
    *("alphas", "selection", "tolerance", "method", "ingredients", "thetas", "extrapolate", "search", "search_budget"),
    *("baseline", "save_dtype", "precision", "train_head", "freeze_tower", "head_steps", "head_learning_rate"),
    *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora"),
    *("learning_rate", "weight_decay", "max_steps", "num_train_epochs", "warmup_steps", "lr_scheduler_type", "optim"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "label_smoothing_factor", "max_grad_norm"),
    *("augmentation", "decay_all_parameters", "adam_beta1", "adam_beta2", "adam_epsilon", "train_sampling_strategy"),
    *("task_sampling", "sampling_temperature", "seed", "data_seed", "bf16", "fp16", "base_fingerprint"),
)
"""The keys of a recipe that a card shows: those that decide the numbers; no path and no secret of theirs is shown."""


def public_recipe(source: CardSource) -> str:
    """Return the part of the recipe that decides the numbers, as YAML, with nothing of the machine that ran it."""
    recipe = {key: source.recipe[key] for key in PUBLIC_KEYS if key in source.recipe}
    recipe["model"] = source.base_model_id or "a local folder"
    for key in ("patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks"):
        if key in recipe:
            recipe[key] = [_task_name(task) for task in recipe[key]]
    if source.thetas:
        recipe["thetas"] = {name: model or "a local folder" for name, model in source.thetas.items()}
    return yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def _task_name(task: str | Mapping[str, Any]) -> str:
    return str(task["name"]) if isinstance(task, Mapping) else Path(task).name
