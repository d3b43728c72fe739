"""Decide which recipe keys may change when a run is resumed."""

from collections.abc import Mapping


RULE = ("selection", "tolerance")
"""Keys of the selection rule. They may change because any rule can choose from the same records."""
FREE_KEYS = (
    *("output_dir", "alphas", "extrapolate", "sweep", "verify", "search", "search_budget", "baseline"),
    *("max_eval_images", "compare_ensemble", "num_examples", "use_cpu", "disable_tqdm", *RULE),
    *("save_dtype", "save_variants"),
    *("per_device_eval_batch_size", "report_to", "run_name", "push_to_hub"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
)
FREE_PREFIXES = ("log", "save_steps", "save_total_limit", "hub_", "activation_checkpointing", "gradient_checkpointing")
"""Prefixes of keys that, like `FREE_KEYS`, may change because they do not affect the weights of any alpha."""
FIXED_IN_SEQUENCE = ("alphas", "sweep", "max_eval_images", *RULE)
"""Free keys that may not change in sequential patching, where each step starts from the alpha chosen before it."""
FIXED_IN_TRAINING = ("max_eval_images",)
"""Free keys that may not change if theta_1 may depend on what is measured: a method scores models, or the trainer
evaluates checkpoints."""
FIXED_IN_CHOOSING = ("alphas", "search_budget")
"""Free keys that may not change if the method was chosen by what was measured (`auto`)."""
MODEL_LOCATION = ("model", "model_revision")
MICRO_BATCH = {"per_device_train_batch_size": 128, "gradient_accumulation_steps": 1}
"""Keys that share the images of a step, with their defaults. Only their product matters to the weights, so that a run
that was out of memory can go on with smaller batches."""
DEFAULTS = {
    **MICRO_BATCH,
    **{"learning_rate": 1e-5, "weight_decay": 0.1, "max_steps": 2000, "warmup_steps": 0.1, "seed": 42},
    **{"label_smoothing_factor": 0.0, "max_grad_norm": 1.0, "selection": "supported_within", "tolerance": 0.01},
}
"""Defaults of the keys that are changed most, which a recipe leaves out."""
TASK_LOCATION = ("dataset", "revision", "data_files", "data_dir")
"""Keys that say where a model or data set is. They may change, because a run is bound to the content (`Identity`)."""


def conflicts(stored: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Return the sorted keys that are not allowed to change but whose values differ.

    Args:
        stored: Recipe stored in the run folder.
        current: Recipe of the run that is about to resume.

    Example:
        >>> conflicts({"seed": 0, "alphas": [0.0]}, {"seed": 1, "alphas": [0.0, 0.5]})
        ['seed']
    """
    before, now = _without_locations(stored), _without_locations(current)
    changed = {key for key in before.keys() | now.keys() if before.get(key) != now.get(key)}
    if _micro_batches(before) == _micro_batches(now):
        changed -= MICRO_BATCH.keys()
    fixed = _fixed_here(before, now)
    return sorted(key for key in changed if not _is_free(key) or key in fixed)


def makes_weights(recipe: Mapping[str, object]) -> bool:
    """Return whether weights depend on the selection rule: `auto`, or a soup with `score: selection`."""
    method = recipe.get("method")
    options = method.values() if isinstance(method, Mapping) else ()
    return _chooses_method(recipe) or any(
        isinstance(option, Mapping) and option.get("score") == "selection" for option in options
    )


def _chooses_method(recipe: Mapping[str, object]) -> bool:
    method = recipe.get("method")
    return isinstance(method, Mapping) and "auto" in method


def _fixed_here(stored: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Return the free keys that may not change between these recipes."""
    fixed: list[str] = []
    if "step" in stored or "sequential" in (stored.get("strategy"), current.get("strategy")):
        fixed += FIXED_IN_SEQUENCE
    if any(key in recipe for key in ("method", "eval_strategy") for recipe in (stored, current)):
        fixed += FIXED_IN_TRAINING
    if _chooses_method(stored):
        fixed += FIXED_IN_CHOOSING
    if makes_weights(stored) or (current.get("selection") == "none" != stored.get("selection")):
        fixed += RULE  # without a rule, a run would leave the patched model that is there
    return fixed


def describe(keys: list[str], stored: Mapping[str, object], current: Mapping[str, object]) -> str:
    """Describe the first few conflicts for an error message, with the defaults of keys that a recipe leaves out.

    Example:
        >>> describe(["max_steps"], {"max_steps": 25}, {})
        'max_steps: 25 there, 2000 here'
    """
    return ", ".join(f"{key}: {_brief(key, stored)} there, {_brief(key, current)} here" for key in keys[:3])


def _without_locations(recipe: Mapping[str, object]) -> dict[str, object]:
    """Return a recipe without the locations of its models and data sets; `thetas` are reduced to their names."""
    bound = {key: value for key, value in recipe.items() if key not in MODEL_LOCATION}
    thetas = recipe.get("thetas")
    if isinstance(thetas, Mapping):
        bound["thetas"] = list(thetas)
    return {key: [_task_content(task) for task in x] if isinstance(x, list) else x for key, x in bound.items()}


def _micro_batches(recipe: Mapping[str, object]) -> object:
    """Return how many images a process takes in a training step; what a damaged recipe says instead, unchanged."""
    size, number = (recipe.get(key, default) for key, default in MICRO_BATCH.items())
    return size * number if isinstance(size, int) and isinstance(number, int) else (size, number)


def _task_content(task: object) -> object:
    """Return a task without the location of its data set, if it is a definition rather than a name."""
    if not isinstance(task, Mapping):
        return task
    return {key: value for key, value in task.items() if key not in TASK_LOCATION}


def _is_free(key: str) -> bool:
    return key in FREE_KEYS or key.startswith(FREE_PREFIXES)


def _brief(key: str, recipe: Mapping[str, object]) -> str:
    value = recipe.get(key)
    if value is None and (key not in DEFAULTS or (key == "max_steps" and "num_train_epochs" in recipe)):
        return "not set"
    text = str(DEFAULTS[key] if value is None else value)
    return text if len(text) <= 60 else f"{text[:57]}..."
