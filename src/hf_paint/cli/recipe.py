"""Recipes: the keys of `hf-paint patch`, given in a YAML file or as flags."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import yaml

from hf_paint.cli.parser import VALUE
from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import DEFAULT_ALPHAS
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE
from hf_paint.tasks.keys import ORDER


COMMON_TRAINING_FIELDS = {
    "output_dir": "Path to the run folder (runs/<model>-<tasks>).",
    "learning_rate": "Peak learning rate of AdamW (1e-05).",
    "weight_decay": "Weight decay of AdamW (0.1).",
    "max_steps": "Number of optimizer steps (2000, unless num_train_epochs is set).",
    "num_train_epochs": "Number of passes over the train split, instead of max_steps.",
    "warmup_steps": "Number of linear warm-up steps; a value below 1 is a fraction of all steps (0.1).",
    "per_device_train_batch_size": "Training batch size per process (128).",
    "gradient_accumulation_steps": "Number of micro-batches per optimizer step (1).",
    "gradient_checkpointing": "Recompute activations in the backward pass, which is slower but saves memory (False).",
    "auto_find_batch_size": "Start over with smaller batches if memory runs out (False).",
    "per_device_eval_batch_size": "Evaluation batch size per process (128).",
    "lr_scheduler_type": "Schedule: `cosine`, as in the papers, or a transformers schedule (cosine).",
    "label_smoothing_factor": "Label smoothing (0.0).",
    "max_grad_norm": "Maximum gradient norm for clipping (1.0).",
    "augmentation": "`paint` (random crops of at least nine tenths of the image) or `none` (paint).",
    "augmentation_device": "Where crops are resized: `cpu`, `cuda` (the training device) or `auto` (auto).",
    "decay_all_parameters": "Also apply weight decay to biases and layer norms, as in the papers (True).",
    "train_head": "Also train a classification head (False).",
    "freeze_tower": "With train_head: train only the head, on precomputed embeddings (False).",
    "head_steps": "With train_head: number of steps that train the head alone before joint training (0).",
    "use_peft": "Train a LoRA adapter with peft instead of all weights; use a learning rate of 1e-4 or more (False).",
    "lora_r": "With use_peft: rank of the adapter (16).",
    "lora_alpha": "With use_peft: the adapter is scaled by lora_alpha / lora_r (32).",
    "lora_target_modules": "With use_peft: names or regular expressions of the layers to adapt (attention and MLP).",
    "regularization": "Penalties that keep what the model knew: {ldifs: 10}, {l2_sp: 0.01} or both (none).",
    "replay_share": "With replay_tasks: their share of the images of an epoch (0.25).",
    "task_sampling": "How to sample from several tasks: `proportional`, `uniform` or `temperature` (proportional).",
    "sampling_temperature": "With `temperature`: n images have weight n ** (1 / sampling_temperature) (2.0).",
    "seed": "Seed for the image order and augmentation (42).",
    "bf16": "Train with bfloat16 autocast (False).",
    "use_cpu": "Use the CPU (False).",
    "dataloader_num_workers": "Number of worker processes that decode training images (from the cores).",
    "save_steps": "Number of steps between checkpoints (500).",
    "report_to": "Experiment trackers, for example wandb or tensorboard (none).",
}
"""Help texts of common training fields, with defaults in parentheses."""


TASKS_ARE = "built-in names or groups, task files, folders of pictures, data files or data set ids on the Hub"


def _key(help_text: str, **options: Any) -> Any:
    return field(metadata={"help": help_text}, **options)


@dataclass(kw_only=True)
class PatchRecipe:
    """The recipe keys other than training fields: the model, the tasks, the method and the choice of alpha."""

    model: str = _key("CLIP model to patch: Hub repository id or folder.", default="")
    model_revision: str = _key("Branch, tag or commit of the model on the Hub.", default="main")
    strategy: Literal["single", "joint", "sequential", "parallel"] = _key(
        "`single` patches one task. The others patch several tasks: `joint` trains on all of them at once, "
        "`sequential` on one after another, and `parallel` on each separately, with one coefficient per task.",
        default="single",
    )
    patching_tasks: list[str] = _key(f"Tasks to patch: {TASKS_ARE}.", default_factory=list)
    supported_tasks: list[str] = _key(
        "Tasks whose accuracy must be preserved, named like those to patch.", default_factory=list
    )
    transfer_tasks: list[str] = _key("Tasks that are only evaluated, to measure broad transfer.", default_factory=list)
    shift_tasks: list[str] = _key(
        "Tasks that are only evaluated, to measure robustness; `{corrupted: cifar10}` adds its corrupted copies.",
        default_factory=list,
    )
    replay_tasks: list[str] = _key(
        "Tasks whose train images are mixed into every training, so that the model does not forget them.",
        default_factory=list,
    )
    alphas: list[float] = _key("Alphas to evaluate; 0 is always added.", default_factory=lambda: [*DEFAULT_ALPHAS])
    selection: Literal["mean", "supported_within", "entropy", "none"] = _key(
        "Rule that chooses alpha on validation images. `supported_within` maximises patching accuracy while supported "
        "accuracy drops by at most `tolerance`; `mean` maximises the mean of patching and supported accuracy; "
        "`entropy` takes the lowest mean entropy of predictions, without labels; `none` chooses nothing.",
        default=DEFAULT_RULE,
    )
    tolerance: float = _key(
        "Accuracy drop that supported_within allows; 0.01 is one point.", default=DEFAULT_TOLERANCE
    )
    save_variants: bool = _key("Also save the model at every alpha to variants/.", default=False)
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = _key(
        "Dtype of the saved models; by default, the dtype of the base.", default=None
    )
    base_model_id: str | None = _key("Hub repository id of the base, if `model` is a folder.", default=None)
    precision: Literal["auto", "fp32", "bf16"] = _key(
        "Precision of evaluation; `auto` uses bf16 if it is faster and agrees with fp32 on a sample.",
        default="fp32",
    )
    max_eval_images: int | None = _key(
        "Maximum number of images to evaluate per split of a task, drawn by class and always the same; for quick "
        "runs. By default, all.",
        default=None,
    )
    sweep: Literal["full", "adaptive"] = _key(
        "`full` evaluates every alpha on every image; `adaptive` does so for a few alphas and evaluates the others "
        "only on images for which neighbouring alphas disagree.",
        default="full",
    )
    verify: bool = _key("With `sweep: adaptive`: also run a full sweep and report the differences.", default=False)
    method: str = _key(
        "Method that computes theta_1 and the path to it: a name, or {name: {option: value}}. For one fine-tuned "
        "model: interpolate, lines, layerwise, fisher, swa, ema; for several: uniform_soup, greedy_soup, "
        "learned_soup, model_stock, task_arithmetic, ties, dare, tsv, iso_c, iso_cts, adamerging, regmean, auto.",
        default="interpolate",
    )
    ingredients: list[str] = _key(
        "Models to fine-tune for a method that merges several: training field -> value. Lists expand to all "
        "combinations: {learning_rate: [1e-5, 3e-5], seed: [0, 1]} is four models.",
        default_factory=list,
    )
    extrapolate: bool = _key("Allow alphas outside [0, 1]; negative alphas move away from theta_1.", default=False)
    thetas: str | None = _key(
        "Models that are already fine-tuned, each a folder or a Hub repository id: task -> model with `parallel`, "
        "name -> model otherwise.",
        default=None,
    )
    search: Literal["cobyqa", "random"] = _key(
        "With `parallel`: coefficient search; `random` is a baseline.", default="cobyqa"
    )
    search_budget: int = _key(
        "With `parallel`: maximum number of combinations, or with `method: auto` of merges, to evaluate.", default=50
    )
    baseline: list[str] = _key(
        "For effective robustness: [reference, shift] accuracies of models trained on the reference only, or a YAML "
        "or JSON file that lists them.",
        default_factory=list,
    )
    compare_ensemble: bool = _key(
        "With `single` and `joint`: at every alpha, also evaluate a mixture of the logits of theta_0 and theta_1.",
        default=False,
    )
    num_examples: int = _key(
        "Maximum number of images per task to save and plot with predictions before and after patching, for the card; "
        "all tasks share 60. Set to 0 if the images must not be published.",
        default=12,
    )
    num_orders: int = _key(
        "With `sequential`: number of random task orders to run and average; 1 keeps the listed order.",
        default=1,
    )
    merge: Literal["sequential", "projection"] = _key(
        "With `sequential`: `sequential` fine-tunes the patched model of the previous step; `projection` fine-tunes "
        "the base on each task and adds what is orthogonal to the tasks before (OPCM).",
        default="sequential",
    )
    base_fingerprint: str | None = _key(
        "Expected fingerprint of the base's image tower, as in a resolved recipe.", default=None
    )


def recipe_arguments(recipe: Mapping[str, object], *, known: set[str]) -> list[str]:
    """Convert a recipe to command line arguments, so that one parser checks both files and flags.

    Values are passed as text; `repr` preserves floats exactly. Null values use the default.

    Args:
        recipe: Keys and values of a YAML file.
        known: Valid keys.

    Raises:
        InputError: If a key is unknown; the closest match is suggested.
    """
    arguments, keys = [], {f.name for f in fields(PatchRecipe)}
    for key, value in recipe.items():
        if key not in known:
            raise InputError(f"Unknown recipe key '{key}'.{_say_where(str(key)) or did_you_mean(str(key), known)}")
        if value is None or value == []:
            continue
        if value is False and key.endswith("_strategy"):
            value = "no"  # unquoted in YAML, `no` is false
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{key}", *(_argument(item, as_json=key not in keys) for item in values)]
    return arguments


def check_flags(flags: list[str], *, known: set[str]) -> None:
    """Check that every flag is a recipe key.

    Raises:
        InputError: If a flag is unknown; the closest match is suggested, or the task to which it belongs.
    """
    for flag in flags:
        name = flag.removeprefix("--").split("=")[0]
        if flag.startswith("--") and name.replace("-", "_") not in known:
            nearest = did_you_mean(f"--{name}", [f"--{key}" for key in known])
            raise InputError(f"Unknown flag '--{name}'.{_say_where(name.replace('-', '_')) or nearest}")


def _say_where(key: str) -> str:
    """Return where a key of a task belongs, or an empty string for any other."""
    if key not in ORDER:
        return ""
    return f" `{key}` is a key of a task, as in --patching_tasks '{{dataset: textures/, {key}: ...}}'."


def describe_keys() -> list[tuple[str, str]]:
    """Return a (key, help) pair for every key of `PatchRecipe`."""
    return [(f.name, f.metadata["help"]) for f in fields(PatchRecipe)]


def _argument(value: object, *, as_json: bool) -> str:
    """Return a value as flag text; a mapping becomes one line, of JSON for training fields and of YAML otherwise."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict) and as_json:
        return json.dumps({key: _number(part) for key, part in value.items()})
    if isinstance(value, dict):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return f"{VALUE}{value}" if str(value).startswith("-") else str(value)


def _number(value: object) -> object:
    """Convert a number that YAML reads as text, like `1e-6`."""
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
