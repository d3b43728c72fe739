"""LoRA for image towers: add, save, merge and interpolate peft adapters."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import nn
from transformers import PreTrainedModel

from hf_paint.adapters.lora_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    read_adapter_config,
    save_factors,
    write_adapter_config,
)
from hf_paint.errors import InputError, one_line
from hf_paint.models.loading import load_clip
from hf_paint.weights.checkpoints import interpolate_checkpoints
from hf_paint.weights.headers import read_checkpoint
from hf_paint.weights.layers import POOLING_ATTENTION


if TYPE_CHECKING:
    from peft import PeftModel

LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""Names of the linear layers in attention and MLP blocks, which are adapted by default."""
ADAPTABLE = (nn.Linear, nn.Conv2d, nn.Embedding, nn.MultiheadAttention)
"""Layer types in image towers that peft can adapt."""


class LoraArguments(Protocol):
    """Training arguments that configure LoRA."""

    lora_r: int
    lora_alpha: float
    lora_dropout: float
    lora_target_modules: list[str] | None
    use_rslora: bool
    use_dora: bool
    seed: int


def image_tower_pattern(names: Sequence[str]) -> str:
    """Return a regular expression that matches image tower layers by name. The names may be regular expressions.

    It does not match the text tower, whose layers have the same names, or SigLIP's pooling attention.
    """
    return rf"(?!{re.escape(POOLING_ATTENTION)})(vision_model\..+\.)?({'|'.join(names)})"


def check_lora_layers(tower: PreTrainedModel, args: LoraArguments) -> None:
    """Check that an image tower has the target layers and that peft can adapt them.

    Raises:
        InputError: If none of the layers exist, or one of them cannot be adapted. The message lists valid layers.
    """
    names = args.lora_target_modules or LORA_TARGETS
    try:
        pattern, modules = re.compile(image_tower_pattern(names)), dict(tower.named_modules())
    except re.error as error:
        raise InputError(
            f"`lora_target_modules`: '{'|'.join(names)}' is not a valid regular expression: {error.msg}."
        ) from error
    targets = [name for name in modules if pattern.fullmatch(name)]
    others = [name for name in targets if not _is_adaptable(modules[name])]
    if targets and not others:
        return
    if others:
        problem = f"{others[0]} ({type(modules[others[0]]).__name__}) cannot be adapted"
    else:
        problem = "this tower has none of them"
    layers = {
        name.rpartition(".")[2]
        for name, module in modules.items()
        if isinstance(module, nn.Linear | nn.Conv2d) and _is_adaptable(module)
    }
    raise InputError(
        f"LoRA adapts the layers {', '.join(names)} of the image tower, but {problem}. Choose from these for "
        f"`lora_target_modules`: {', '.join(sorted(layers))}."
    )


def add_lora(tower: PreTrainedModel, args: LoraArguments) -> "PeftModel":
    """Add new LoRA layers to an image tower in place, and freeze all other parameters.

    Args:
        tower: Image tower to adapt.
        args: LoRA rank, scale, target layers and seed.

    Returns:
        The tower, wrapped in a `PeftModel`.

    Raises:
        InputError: If peft is not installed or cannot adapt these layers.
    """
    peft = import_peft()
    check_lora_layers(tower, args)
    config = peft.LoraConfig(
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules=image_tower_pattern(args.lora_target_modules or LORA_TARGETS),
        use_rslora=args.use_rslora,
        use_dora=args.use_dora,
    )
    with torch.random.fork_rng(devices=[]):  # peft initialises the factors on the CPU with the global generator
        torch.default_generator.manual_seed(args.seed)
        try:
            model: PeftModel = peft.get_peft_model(tower, config)
        except ValueError as error:
            raise InputError(f"LoRA cannot be added to the image tower: {one_line(error)}") from error
    return model


def save_lora(
    model: "PeftModel",
    folder: str | Path,
    base: tuple[str | None, str | None] = (None, None),
    base_fingerprint: str | None = None,
) -> None:
    """Save the adapter of a `PeftModel` in peft's format.

    Args:
        model: Model that contains the adapter.
        folder: Output folder.
        base: Hub repository id of the base model, and its revision.
        base_fingerprint: Fingerprint of the base's image tower in float32.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = import_peft().get_peft_model_state_dict(model)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    save_factors(weights, folder / ADAPTER_WEIGHTS, base_fingerprint)
    model.peft_config["default"].save_pretrained(str(folder))
    config = read_adapter_config(folder) | {"inference_mode": True}
    write_adapter_config(folder / ADAPTER_CONFIG, config, base)


def merge_lora(model: "PeftModel") -> None:
    """Merge the adapter into the tower's weights in place, and unfreeze the tower."""
    tower: nn.Module = model.merge_and_unload()
    tower.requires_grad_(True)


def interpolate_adapter(
    folder_0: str | Path,
    adapter: str | Path,
    outputs: Mapping[float, str | Path],
    *,
    save_dtype: str | None = None,
    extrapolate: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> None:
    """Interpolate between a model and the same model with an adapter merged into it, like `interpolate_checkpoints`.

    This writes complete models. It works with any adapter that peft can merge, including those that `scale_adapter`
    does not support.

    Args:
        folder_0: Folder of the base model, in safetensors.
        adapter: Folder of an adapter saved by peft.
        outputs: alpha -> output folder. Alpha 1 is the model with the full adapter.
        save_dtype: Dtype for the saved weights. Defaults to the dtype of the base model.
        extrapolate: Allow an alpha outside [0, 1].
        overwrite: Replace existing models in the output folders.
        show_progress: Show a progress bar.

    Raises:
        InputError: Same as for `interpolate_checkpoints`, and if the adapter cannot be read or merged into this model.

    Example:
        >>> interpolate_adapter(model_folder, adapter_folder, {0.3: tmp_path / "alpha-0.30"})
        >>> (tmp_path / "alpha-0.30" / "model.safetensors").exists()
        True
    """
    read_checkpoint(folder_0)  # fails early if this is a Hub repository id instead of a folder
    model, _, dtype = load_clip(str(folder_0))
    _merge(model, Path(adapter))
    with TemporaryDirectory() as folder_1:
        model.save_pretrained(folder_1)
        interpolate_checkpoints(
            folder_0,
            folder_1,
            outputs,
            save_dtype=save_dtype or str(dtype).removeprefix("torch."),
            extrapolate=extrapolate,
            overwrite=overwrite,
            show_progress=show_progress,
        )


def import_peft() -> ModuleType:
    """Import and return peft, which is an optional dependency.

    Raises:
        InputError: If peft is not installed.
    """
    try:
        import peft
    except ImportError as error:
        raise InputError("LoRA requires peft. Install it with: pip install 'hf-paint[peft]'.") from error
    return peft


def _merge(model: PreTrainedModel, adapter: Path) -> None:
    """Merge an adapter into a model in place."""
    peft = import_peft()
    read_adapter_config(adapter)
    try:
        with safe_open(adapter / ADAPTER_WEIGHTS, framework="pt") as file:
            names = set(file.keys())
        adapted = peft.PeftModel.from_pretrained(model, str(adapter))
        unexpected = names - peft.get_peft_model_state_dict(adapted).keys()
        adapted.merge_and_unload()
    except (ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"The adapter '{adapter}' cannot be merged: {one_line(error)}") from error
    if unexpected:
        raise InputError(
            f"The adapter '{adapter}' belongs to another model: this model has no tensor for '{min(unexpected)}'."
        )


def _is_adaptable(module: nn.Module) -> bool:
    """Return whether peft can adapt a module and merge the adapter; this is not the case for grouped convolutions."""
    return isinstance(module, ADAPTABLE) and getattr(module, "groups", 1) == 1
