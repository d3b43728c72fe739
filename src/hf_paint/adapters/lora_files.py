"""The files of a LoRA adapter in peft's format: what they say, and whether they are linear in alpha. Needs no peft."""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_paint.errors import InputError
from hf_paint.repositories import is_repo_id
from hf_paint.weights.folders import published_together


ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
PREFIX = "base_model.model."
"""What peft puts before the name of a module of the base."""

NOT_LINEAR = {
    "use_dora": "DoRA normalises the weights anew at every scale",
    "modules_to_save": "modules that were trained in full do not scale with the adapter",
    "trainable_token_indices": "embeddings that were trained in full do not scale with the adapter",
    "layer_replication": "the adapted model has other layers than its base",
    **dict.fromkeys(
        (
            *("alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config"),
            *("use_bdlora", "use_qalora", "velora_config"),
        ),
        "it is a variant of LoRA that hf_paint does not know",
    ),
}
"""Keys of a LoRA config -> why its scale times alpha is not `theta_0 + alpha * (theta_1 - theta_0)`."""

INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal")
"""Those that leave the weights of the base as they are."""

Factors = dict[str, tuple[Tensor, Tensor]]
"""Module -> A of shape (rank, in_features) and B of shape (out_features, rank); B @ A is added to its weight.

Of a convolution, A is (rank, in_channels, height, width) and B (out_channels, rank, 1, 1).
"""

logger = logging.getLogger(__name__)


def read_adapter_config(folder: str | Path) -> dict[str, Any]:
    """Read what an adapter says of itself.

    Raises:
        InputError: If it is no adapter, or its weights are not in safetensors.
    """
    path = Path(folder) / ADAPTER_CONFIG
    if not path.is_file():
        raise InputError(f"'{folder}' is no adapter of peft: it has no {ADAPTER_CONFIG}.")
    if not (path.parent / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"'{folder}' has no {ADAPTER_WEIGHTS}, and hf_paint reads nothing but safetensors.")
    try:
        return {"lora_alpha": 8, **json.loads(path.read_bytes())}  # peft's default
    except (ValueError, TypeError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def check_linear(config: Mapping[str, Any], name: str | Path) -> None:
    """Refuse an adapter whose weights are not linear in its scale.

    Args:
        config: What it says of itself.
        name: What the message calls it.

    Raises:
        InputError: If it is not linear; the message says why.

    Example:
        >>> check_linear({"peft_type": "LORA", "use_rslora": True}, "mine")
    """
    reasons = [reason for key, reason in NOT_LINEAR.items() if config.get(key)]
    if config.get("peft_type") != "LORA":
        reasons = [f"its type is {config.get('peft_type')}, not LORA"]
    elif config.get("bias", "none") != "none":
        reasons.append("biases that were trained do not scale with the adapter")
    elif config.get("init_lora_weights", True) not in INITIALISATIONS:
        reasons.append(f"`init_lora_weights: {config['init_lora_weights']}` changes the weights of the base")
    if reasons:
        raise InputError(
            f"The adapter '{name}' cannot be scaled by alpha: {reasons[0]}. Interpolate the merged weights instead: "
            "hf-paint interpolate THETA_0 --adapter ADAPTER"
        )


def base_of_adapter(config: Mapping[str, Any], base_model_id: str | None = None) -> tuple[str | None, str | None]:
    """Return the id of the base of an adapter on the Hub and its revision; a folder would mean nothing to others.

    Args:
        config: What the adapter says of itself.
        base_model_id: What is to be written instead.

    Raises:
        InputError: If `base_model_id` is no id.
    """
    named, revision = config.get("base_model_name_or_path"), config.get("revision")
    if base_model_id is not None:
        if not is_repo_id(base_model_id):
            raise InputError(f"base_model_id is the id of the base on the Hub, got '{base_model_id}'.")
        return base_model_id, revision if named == base_model_id else None
    if named and not is_repo_id(named):
        logger.warning(f"The adapter calls its base {named}, which is no id on the Hub: left out. Give base_model_id.")
        return None, None
    return named or None, revision


def read_factors(folder: str | Path, config: Mapping[str, Any]) -> Factors:
    """Return the factors of an adapter in float32, its scale folded into A.

    Raises:
        InputError: If the file is damaged, or holds anything but pairs of factors.
    """
    path = Path(folder) / ADAPTER_WEIGHTS
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    names = sorted(name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight"))
    strangers = weights.keys() ^ {f"{name}.lora_{letter}.weight" for name in names for letter in "AB"}
    if strangers:
        raise InputError(f"{path} cannot be added to others: '{min(strangers)}' is not half of a pair of factors.")
    factors = {}
    for name in names:
        a, b = (weights[f"{name}.lora_{letter}.weight"].float() for letter in "AB")
        if b.shape[1] != len(a):  # each group has its own part of A
            raise InputError(f"{path} cannot be added to others: '{name}' is a convolution in groups.")
        module = name.removeprefix(PREFIX)
        factors[module] = (_scale(config, module, len(a)) * a, b)
    return factors


def write_adapter(folder: Path, factors: Factors, base: tuple[str | None, str | None] = (None, None)) -> None:
    """Write factors as a LoRA adapter of scale 1, each module with the rank that it has.

    Args:
        folder: Where to.
        factors: The factors of each module.
        base: The id of the base on the Hub, and its revision.

    Raises:
        InputError: If there are no factors.
    """
    if not factors:
        raise InputError("There is nothing to adapt: no linear layer has changed.")
    rank = max(len(a) for a, _ in factors.values())
    lower = {module: len(a) for module, (a, _) in factors.items() if len(a) != rank}
    config: dict[str, Any] = {"peft_type": "LORA", "task_type": None, "bias": "none", "inference_mode": True}
    config |= {"target_modules": [*factors], "r": rank, "lora_alpha": rank}
    config |= {"rank_pattern": lower, "alpha_pattern": lower}
    tensors = {
        f"{PREFIX}{module}.lora_{letter}.weight": factor.contiguous()
        for module, pair in factors.items()
        for letter, factor in zip("AB", pair, strict=True)
    }
    with published_together(folder) as partial:
        save_file(tensors, partial(ADAPTER_WEIGHTS), metadata={"format": "pt"})
        write_adapter_config(partial(ADAPTER_CONFIG), config, base)


def write_adapter_config(path: Path, config: Mapping[str, Any], base: tuple[str | None, str | None]) -> None:
    """Write what an adapter says of itself, with the id and the revision of its base."""
    named = dict(zip(("base_model_name_or_path", "revision"), base, strict=True))
    path.write_text(json.dumps({**config, **named}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _scale(config: Mapping[str, Any], module: str, rank: int) -> float:
    """Return what peft multiplies B @ A of a module by."""
    patterns = (config.get("alpha_pattern") or {}).items()
    matching = (lora_alpha for key, lora_alpha in patterns if re.match(rf"(.*\.)?({key})$", module))
    return float(next(matching, config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank))
