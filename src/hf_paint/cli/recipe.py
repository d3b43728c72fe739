"""Recipes: the keys of `hf-paint patch`, in a YAML file or as flags."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import yaml

from hf_paint.errors import InputError, did_you_mean
from hf_paint.results.alphas import DEFAULT_ALPHAS


COMMON_TRAINING_FIELDS = {
    "output_dir": "The run folder.",
    "learning_rate": "Peak learning rate of AdamW (1e-05).",
    "weight_decay": "Weight decay of AdamW (0.1).",
    "max_steps": "Optimizer steps (2000, unless num_train_epochs is given).",
    "num_train_epochs": "Passes over the training split, instead of max_steps.",
    "warmup_steps": "Steps of linear warm-up; a number below 1 is a fraction of all steps (200).",
    "per_device_train_batch_size": "Training images per process and step (128).",
    "gradient_accumulation_steps": "Micro-batches per optimizer step (1).",
    "gradient_checkpointing": "Recompute activations in the backward pass: slower, less memory (False).",
    "auto_find_batch_size": "Start over with smaller batches when memory runs out (False).",
    "per_device_eval_batch_size": "Images per process and forward pass (128).",
    "lr_scheduler_type": "The schedule: `cosine`, as in the papers, or another of transformers (cosine).",
    "label_smoothing_factor": "Label smoothing (0.0).",
    "max_grad_norm": "The norm at which gradients are clipped (1.0).",
    "augmentation": "`paint`: random crops of at least nine tenths of the image, or `none` (paint).",
    "decay_all_parameters": "Apply weight decay to biases and layer norms too, as in the papers (True).",
    "train_head": "Train the classification head too (False).",
    "freeze_tower": "With train_head: train only the head, on embeddings computed once (False).",
    "head_steps": "With train_head: first train only the head for this many steps (0).",
    "use_peft": "Train a LoRA adapter with peft instead of all weights; use a learning rate of 1e-4 or more (False).",
    "lora_r": "With use_peft: the rank of the adapter (16).",
    "lora_alpha": "With use_peft: the adapter is scaled by lora_alpha / lora_r (32).",
    "lora_target_modules": "With use_peft: names or patterns of the adapted layers (attention and MLP).",
    "task_sampling": "How to sample from several tasks: `proportional`, `uniform` or `temperature` (proportional).",
    "sampling_temperature": "With `temperature`: a task of n images has weight n ** (1 / sampling_temperature) (2.0).",
    "seed": "Seed of the order and augmentation of the images (42).",
    "bf16": "Train in bfloat16 autocast (False).",
    "use_cpu": "Use the CPU (False).",
    "dataloader_num_workers": "Processes that decode training images (0).",
    "save_steps": "Steps between checkpoints (500).",
    "report_to": "Experiment trackers, such as wandb or tensorboard (none).",
}
"""The help of common training fields, with defaults in parentheses."""


def _key(help_text: str, **options: Any) -> Any:
    return field(metadata={"help": help_text}, **options)


@dataclass(kw_only=True)
class PatchRecipe:
    """The keys of a recipe besides the training fields: the model, the tasks, the method and the choice of alpha."""

    model: str = _key("The CLIP model to patch: an id on the Hub or a folder.", default="")
    model_revision: str = _key("The branch, tag or commit of the model on the Hub.", default="main")
    strategy: Literal["single", "joint", "sequential", "parallel"] = _key(
        "`single` patches one task; `joint` patches several in one fine-tuning, `sequential` one after the other, and "
        "`parallel` separately, with one coefficient per task.",
        default="single",
    )
    patching_tasks: list[str] = _key("The tasks to patch: built-in names or task YAMLs.", default_factory=list)
    supported_tasks: list[str] = _key("Tasks whose accuracy must not drop.", default_factory=list)
    transfer_tasks: list[str] = _key("Tasks that are only evaluated, to measure broad transfer.", default_factory=list)
    shift_tasks: list[str] = _key(
        "Tasks that are only evaluated, to measure robustness; `{corrupted: cifar10}` is every corruption of one.",
        default_factory=list,
    )
    alphas: list[float] = _key("The alphas to evaluate; 0 is always added.", default_factory=lambda: [*DEFAULT_ALPHAS])
    selection: Literal["mean", "supported_within", "none"] = _key(
        "The rule that chooses alpha on validation images. `mean`: the highest mean of patching and supported "
        "accuracy; `supported_within`: the highest patching accuracy at a supported loss of at most `tolerance`; "
        "`none`: no choice.",
        default="mean",
    )
    tolerance: float = _key("The loss that supported_within accepts, as a fraction: 0.01 is one point.", default=0.01)
    save_variants: bool = _key("Also save the model of every alpha to variants/.", default=False)
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = _key(
        "The dtype of the saved models; by default, the dtype of the base.", default=None
    )
    base_model_id: str | None = _key("The id of the base on the Hub, when `model` is a folder.", default=None)
    precision: Literal["auto", "fp32", "bf16"] = _key(
        "The arithmetic of evaluations; `auto` is bf16 if it agrees with fp32 on a sample and is faster.",
        default="fp32",
    )
    sweep: Literal["full", "adaptive"] = _key(
        "`full` evaluates every alpha on every image; `adaptive` does so for a few alphas, and evaluates the others "
        "only on images on which neighbouring alphas disagree.",
        default="full",
    )
    verify: bool = _key("With `sweep: adaptive`: also sweep in full, and report the differences.", default=False)
    method: str = _key(
        "The method that computes theta_1 and the path to it: a name, or {name: {option: value}}. For one training: "
        "interpolate, lines, layerwise, fisher, swa, ema; for several: uniform_soup, greedy_soup, learned_soup, "
        "model_stock, task_arithmetic, ties, dare.",
        default="interpolate",
    )
    ingredients: list[str] = _key(
        "The fine-tunings for a method that merges several: training field -> value; lists stand for all "
        "combinations, such as {learning_rate: [1e-5, 3e-5], seed: [0, 1]}.",
        default_factory=list,
    )
    extrapolate: bool = _key("Allow alphas outside [0, 1]; negative ones move away from theta_1.", default=False)
    thetas: str | None = _key(
        "Models that are already fine-tuned, each a folder or an id on the Hub: task -> model with `parallel`, else "
        "name -> model.",
        default=None,
    )
    search: Literal["cobyqa", "random"] = _key(
        "With `parallel`: the search for the coefficients; `random` is a baseline.", default="cobyqa"
    )
    search_budget: int = _key("With `parallel`: the maximum number of evaluated combinations.", default=50)
    baseline: list[str] = _key(
        "For effective robustness: [reference, shift] accuracies of models trained only on the reference, or a YAML "
        "or JSON file with a list of them.",
        default_factory=list,
    )
    compare_ensemble: bool = _key(
        "With `single` and `joint`: also evaluate the mixture of the logits of theta_0 and theta_1 at every alpha.",
        default=False,
    )
    num_examples: int = _key(
        "The number of images of each task to plot before and after patching, for the card. Set 0 if the images must "
        "not be published.",
        default=12,
    )
    num_orders: int = _key(
        "With `sequential`: the number of random orders of the tasks to run and average; 1 keeps the listed order.",
        default=1,
    )
    base_fingerprint: str | None = _key(
        "The expected fingerprint of the image tower of the base, as in a resolved recipe.", default=None
    )


def recipe_arguments(recipe: Mapping[str, object], *, known: set[str]) -> list[str]:
    """Return a recipe as command-line arguments, so one parser checks both files and flags.

    Values are passed as text; `repr` preserves floats exactly. A null value stands for the default.

    Args:
        recipe: The keys of a YAML file.
        known: The keys that exist.

    Raises:
        InputError: If a key is unknown; the nearest one is suggested.
    """
    arguments = []
    for key, value in recipe.items():
        if key not in known:
            raise InputError(f"Unknown recipe key '{key}'.{did_you_mean(str(key), known)}")
        if value is None or value == []:
            continue
        if value is False and key.endswith("_strategy"):
            value = "no"  # unquoted in YAML, `no` is false
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{key}", *(_argument(item) for item in values)]
    return arguments


def check_flags(flags: list[str], *, known: set[str]) -> None:
    """Check that every flag is a recipe key.

    Raises:
        InputError: If a flag is unknown; the nearest one is suggested.
    """
    for flag in flags:
        name = flag.removeprefix("--").split("=")[0]
        if flag.startswith("--") and name.replace("-", "_") not in known:
            raise InputError(f"Unknown flag '--{name}'.{did_you_mean(name, known)}")


def describe_keys() -> list[tuple[str, str]]:
    """Return (key, help) of every key of `PatchRecipe`."""
    return [(f.name, f.metadata["help"]) for f in fields(PatchRecipe)]


def _argument(value: object) -> str:
    """Return a value as the text of a flag; a mapping as YAML on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return str(value)
