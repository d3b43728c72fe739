"""The part of a recipe that may be published: what affects the results, without paths or secrets."""

from collections.abc import Mapping
from pathlib import PureWindowsPath
from typing import Any

import yaml

from hf_paint.repositories import is_repo_id, split_revision


PUBLIC_KEYS = (
    *("model", "strategy", "patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks"),
    *("replay_tasks", "replay_share"),
    *("alphas", "selection", "tolerance", "method", "ingredients", "thetas", "extrapolate", "search", "search_budget"),
    *("merge",),
    *("max_eval_images", "baseline", "save_dtype", "precision"),
    *("train_head", "freeze_tower", "head_steps", "head_learning_rate"),
    *("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora"),
    *("learning_rate", "weight_decay", "max_steps", "num_train_epochs", "warmup_steps", "lr_scheduler_type", "optim"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "label_smoothing_factor", "max_grad_norm"),
    *("augmentation", "decay_all_parameters", "adam_beta1", "adam_beta2", "adam_epsilon", "train_sampling_strategy"),
    *(
        "regularization",
        "task_sampling",
        "sampling_temperature",
        "seed",
        "data_seed",
        "bf16",
        "fp16",
        "base_fingerprint",
    ),
)
"""Recipe keys that a card and a report show. They affect the results and contain no paths or secrets."""
TASK_KEYS = ("patching_tasks", "supported_tasks", "transfer_tasks", "shift_tasks", "replay_tasks")
LOCAL = "a local folder"
"""What stands for a path."""


def public_recipe(recipe: Mapping[str, Any], base_model_id: str | None) -> str:
    """Return the part of a recipe that affects the results as YAML, without paths or secrets.

    Args:
        recipe: Resolved recipe of a run.
        base_model_id: Hub repository id of the base; None if it is not on the Hub.

    Example:
        >>> print(public_recipe({"model": "/home/me/clip", "patching_tasks": ["mnist"], "output_dir": "runs"}, None))
        model: a local folder
        patching_tasks: [mnist]
        <BLANKLINE>
    """
    shown = {key: recipe[key] for key in PUBLIC_KEYS if key in recipe}
    shown["model"] = base_model_id or LOCAL
    shown |= {key: [_task_name(task) for task in shown[key]] for key in TASK_KEYS if key in shown}
    if thetas := public_thetas(recipe):
        shown["thetas"] = {name: model or LOCAL for name, model in thetas.items()}
    return yaml.safe_dump(shown, sort_keys=False, allow_unicode=True, default_flow_style=None, width=100)


def public_thetas(recipe: Mapping[str, Any]) -> dict[str, str | None]:
    """Return the models that a run did not train, with their Hub repository ids, or None for a folder."""
    models = {name: split_revision(model)[0] for name, model in recipe.get("thetas", {}).items()}
    return {name: model if is_repo_id(model) else None for name, model in models.items()}


def _task_name(task: str | Mapping[str, Any]) -> str:
    return str(task["name"]) if isinstance(task, Mapping) else PureWindowsPath(task).name
