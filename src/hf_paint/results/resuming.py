"""Decide which recipe keys may change when a run is resumed."""

from collections.abc import Mapping


FREE_KEYS = (
    *("output_dir", "alphas", "sweep", "verify", "search", "search_budget", "baseline", "compare_ensemble"),
    *("num_examples", "use_cpu", "disable_tqdm", "gradient_checkpointing"),
    *("per_device_eval_batch_size", "report_to", "run_name", "push_to_hub"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers"),
    *("dataloader_prefetch_factor", "dataloader_multiprocessing_context"),
)
FREE_PREFIXES = ("logging_", "save_steps", "save_total_limit", "hub_")
"""Prefixes of keys that, like `FREE_KEYS`, may change because they do not affect the weights of any alpha."""
FIXED_IN_SEQUENCE = ("alphas", "sweep")
"""Free keys that may not change in sequential patching, where each step starts from the alpha chosen before it."""


def conflicts(stored: Mapping[str, object], current: Mapping[str, object]) -> list[str]:
    """Return the sorted keys that are not allowed to change but whose values differ.

    Args:
        stored: Recipe stored in the run folder.
        current: Recipe of the run that is about to resume.

    Example:
        >>> conflicts({"seed": 0, "alphas": [0.0]}, {"seed": 1, "alphas": [0.0, 0.5]})
        ['seed']
    """
    sequential = "sequential" in (stored.get("strategy"), current.get("strategy"))
    changed = {key for key in stored.keys() | current.keys() if stored.get(key) != current.get(key)}
    return sorted(key for key in changed if not _is_free(key) or (sequential and key in FIXED_IN_SEQUENCE))


def describe(keys: list[str], stored: Mapping[str, object], current: Mapping[str, object]) -> str:
    """Describe the first few conflicts for an error message."""
    return ", ".join(f"{key}: {_brief(stored.get(key))} there, {_brief(current.get(key))} here" for key in keys[:3])


def _is_free(key: str) -> bool:
    return key in FREE_KEYS or key.startswith(FREE_PREFIXES)


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
