"""Recipes: the keys of `hf-paint patch`, in a YAML file or as flags. Needs no torch, so that `--help` is quick."""

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
    "warmup_steps": "Steps of linear warm-up, below 1 a share of all steps (200).",
    "per_device_train_batch_size": "Training images per process and step (128).",
    "gradient_accumulation_steps": "Micro-batches per optimizer step (1).",
    "gradient_checkpointing": "Compute activations twice instead of keeping them: slower, in less memory (False).",
    "auto_find_batch_size": "When the memory is too small, start over with smaller batches (False).",
    "per_device_eval_batch_size": "Images per process and forward pass (128).",
    "lr_scheduler_type": "`cosine` is the papers' schedule, other names are transformers' (cosine).",
    "label_smoothing_factor": "Label smoothing (0.0).",
    "max_grad_norm": "Gradients are clipped at this norm (1.0).",
    "augmentation": "`paint` crops nine tenths of the image or more, `none` does not (paint).",
    "decay_all_parameters": "Decay biases and layer norms too, as the papers do (True).",
    "train_head": "Train the classification head too (False).",
    "freeze_tower": "With train_head: the head alone, on embeddings computed once (False).",
    "head_steps": "With train_head: steps of the head alone, before both (0).",
    "use_peft": "Train a LoRA adapter with peft instead of all weights; 1e-4 and more are its learning rates (False).",
    "lora_r": "With use_peft: the rank (16).",
    "lora_alpha": "With use_peft: the adapter is scaled by lora_alpha / lora_r (32).",
    "lora_target_modules": "With use_peft: names or patterns of layers (those of attention and MLP).",
    "task_sampling": "Of several tasks, `proportional`, `uniform` or by `temperature` (proportional).",
    "sampling_temperature": "A task of n images comes as n ** (1 / temperature) (2.0).",
    "seed": "Seed of the order and the augmentation of the images (42).",
    "bf16": "Train in bfloat16 autocast (False).",
    "use_cpu": "Stay on the CPU (False).",
    "dataloader_num_workers": "Processes that decode training images (0).",
    "save_steps": "Steps between checkpoints (500).",
    "report_to": "Trackers, such as wandb or tensorboard (none).",
}
"""What `hf-paint patch --help` says of the commonest training fields, defaults in brackets."""


def _key(help_text: str, **options: Any) -> Any:
    return field(metadata={"help": help_text}, **options)


@dataclass(kw_only=True)
class PatchRecipe:
    """What to patch, what to keep and how to choose alpha; the training fields stand beside these keys."""

    model: str = _key("The CLIP model to patch: an id on the Hub or a folder.", default="")
    model_revision: str = _key("The branch, tag or commit of the model on the Hub.", default="main")
    strategy: Literal["single", "joint", "sequential", "parallel"] = _key(
        "`single` patches one task, `joint` several in one fine-tuning, `sequential` one after the other, `parallel` "
        "each by itself, with a coefficient of its own.",
        default="single",
    )
    patching_tasks: list[str] = _key("The tasks to patch: built-in names or task YAMLs.", default_factory=list)
    supported_tasks: list[str] = _key("Tasks that must stay as they are.", default_factory=list)
    transfer_tasks: list[str] = _key("Tasks that are only looked at, for broad transfer.", default_factory=list)
    shift_tasks: list[str] = _key(
        "Tasks that are only looked at, for distribution shift; `{corrupted: cifar10}` is every corruption of one.",
        default_factory=list,
    )
    alphas: list[float] = _key("The alphas to evaluate; 0 is always added.", default_factory=lambda: [*DEFAULT_ALPHAS])
    selection: Literal["mean", "supported_within", "none"] = _key(
        "How alpha is chosen on validation images: the best mean of patching and supported accuracy, the best "
        "patching accuracy at a supported loss of at most `tolerance`, or not at all.",
        default="mean",
    )
    tolerance: float = _key("The loss that supported_within accepts, as a fraction: 0.01 is one point.", default=0.01)
    save_variants: bool = _key("Also save the model of every alpha, in variants/.", default=False)
    save_dtype: Literal["float32", "bfloat16", "float16"] | None = _key(
        "The dtype of the saved models; the base's by default.", default=None
    )
    base_model_id: str | None = _key("The id of the base on the Hub, when `model` is a folder.", default=None)
    precision: Literal["auto", "fp32", "bf16"] = _key(
        "The arithmetic of the evaluations; `auto` is bf16 where it agrees with fp32 on a sample and is faster.",
        default="fp32",
    )
    sweep: Literal["full", "adaptive"] = _key(
        "`full` evaluates every alpha on every image, `adaptive` a few alphas, and the others where their neighbours "
        "disagree.",
        default="full",
    )
    verify: bool = _key("With `sweep: adaptive`: also sweep in full, and say how far off it was.", default=False)
    method: str = _key(
        "How fine-tuned weights become theta_1: a name, or {name: {option: value}}. Of one fine-tuning: interpolate, "
        "lines, layerwise, fisher, swa, ema; of several: uniform_soup, greedy_soup, learned_soup, model_stock, "
        "task_arithmetic, ties, dare.",
        default="interpolate",
    )
    ingredients: list[str] = _key(
        "For methods of several fine-tunings: training field -> value, lists for all combinations, such as "
        "{learning_rate: [1e-5, 3e-5], seed: [0, 1]}.",
        default_factory=list,
    )
    extrapolate: bool = _key("Allow alphas outside [0, 1]; negative ones go away from theta_1.", default=False)
    thetas: str | None = _key(
        "Models that are fine-tuned already, each a folder or an id on the Hub: with `parallel` task -> model, else "
        "name -> model.",
        default=None,
    )
    search: Literal["cobyqa", "random"] = _key(
        "`parallel`: how the coefficients are searched; `random` is the baseline.", default="cobyqa"
    )
    search_budget: int = _key("`parallel`: how many combinations are evaluated at most.", default=50)
    baseline: list[str] = _key(
        "For effective robustness under shift: [reference, shift] accuracies of models that were trained on the "
        "reference alone, or a YAML or JSON file with a list of them.",
        default_factory=list,
    )
    compare_ensemble: bool = _key(
        "`single`, `joint`: also mix the logits of theta_0 and theta_1 at every alpha, for comparison.", default=False
    )
    num_examples: int = _key(
        "How many images of each task are plotted before and after patching; the card shows them. 0 for none, such as "
        "for images that may not be published.",
        default=12,
    )
    num_orders: int = _key(
        "`sequential`: how many random orders of the tasks are run and averaged; with 1 they are patched as listed.",
        default=1,
    )
    base_fingerprint: str | None = _key(
        "Refuse a base whose image tower has another fingerprint; a resolved recipe holds it.", default=None
    )


def recipe_arguments(recipe: Mapping[str, Any], *, known: set[str]) -> list[str]:
    """Write a recipe as command line arguments, so that one parser checks files and flags alike.

    A key with the value null stands for its default.

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
            value = "no"  # which YAML reads as false where it is not quoted
        values = value if isinstance(value, list) else [value]
        arguments += [f"--{key}", *(_argument(item) for item in values)]
    return arguments


def check_flags(flags: list[str], *, known: set[str]) -> None:
    """Refuse a flag that is no recipe key, with the nearest one.

    Raises:
        InputError: If a flag is unknown.
    """
    for flag in flags:
        name = flag.removeprefix("--").split("=")[0]
        if flag.startswith("--") and name.replace("-", "_") not in known:
            raise InputError(f"Unknown flag '--{name}'.{did_you_mean(name, known)}")


def describe_keys() -> list[tuple[str, str]]:
    """Return (key, help) of every key of `PatchRecipe`."""
    return [(f.name, f.metadata["help"]) for f in fields(PatchRecipe)]


def _argument(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6).strip()
    return str(value)
