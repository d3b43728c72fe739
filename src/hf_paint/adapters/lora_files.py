"""Read, check and write LoRA adapters in peft's format, without requiring peft."""

import json
import logging
import math
import re
from collections.abc import Mapping
from pathlib import Path
from types import NoneType

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from hf_paint.documents.reading import Json, read_json
from hf_paint.errors import InputError, one_line
from hf_paint.repositories import is_repo_id
from hf_paint.weights.finite import finite
from hf_paint.weights.folders import WEIGHTS_AND_HEAD
from hf_paint.weights.manifest import check_whole, save_sealed


ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
BASE_FINGERPRINT = "base_fingerprint"
"""Metadata key in the weights of an adapter."""
PREFIX = "base_model.model."
"""Prefix that peft adds to the module names of the base model."""

NOT_LINEAR = {
    "use_dora": "DoRA normalises the weights again at every scale",
    "modules_to_save": "modules trained in full do not scale with the adapter",
    "trainable_token_indices": "embeddings trained in full do not scale with the adapter",
    "layer_replication": "the adapted model and its base have different layers",
    **dict.fromkeys(
        (
            *("alora_invocation_tokens", "arrow_config", "kasa_config", "monteclora_config"),
            *("use_bdlora", "use_qalora", "velora_config"),
        ),
        "hf_paint does not support this variant of LoRA",
    ),
}
"""LoRA config key -> reason why scaling the adapter by alpha would not give theta_alpha."""

CONFIG_TYPES: dict[str, tuple[type, ...]] = {
    **dict.fromkeys(("peft_type", "base_model_name_or_path", "revision", "bias"), (str, NoneType)),
    **{"lora_alpha": (int, float), "alpha_pattern": (dict, NoneType), "use_rslora": (bool, NoneType)},
}
"""Config key -> the types of its value; a key that is not there counts as null."""

INITIALISATIONS = (True, False, "gaussian", "eva", "orthogonal")
"""Values of `init_lora_weights` that leave the base weights unchanged."""

Factors = dict[str, tuple[Tensor, Tensor]]
"""Module -> (A, B) with shapes (rank, in_features) and (out_features, rank). B @ A is added to the module's weight.

For convolutions, A has shape (rank, in_channels, height, width) and B has shape (out_channels, rank, 1, 1).
"""

logger: logging.Logger = logging.getLogger(__name__)


def read_adapter_config(folder: str | Path) -> Json:
    """Read the config of an adapter.

    Raises:
        InputError: If the folder does not contain an adapter, or its weights are not in safetensors.
    """
    path = Path(folder) / ADAPTER_CONFIG
    if not path.is_file():
        raise InputError(f"'{folder}' is not a peft adapter: it has no {ADAPTER_CONFIG}.")
    if not (path.parent / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"'{folder}' has no {ADAPTER_WEIGHTS}. hf_paint reads adapters only in safetensors.")
    check_whole(path.parent)
    config: Json = {"lora_alpha": 8} | (read_json(path) or {})  # peft's default
    wrong = [key for key, kinds in CONFIG_TYPES.items() if not isinstance(config.get(key), kinds)]
    if wrong:
        raise InputError(f"{path} is damaged: its `{wrong[0]}` is {config[wrong[0]]!r:.40}.")
    try:
        for pattern, alpha in (config.get("alpha_pattern") or {}).items():
            re.compile(pattern)
            math.sqrt(alpha)
    except (re.error, TypeError, ValueError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is damaged: its `alpha_pattern` cannot be read: {one_line(error)}.") from error
    return config


def check_linear(config: Json, name: str | Path) -> None:
    """Check that the weights of the adapted model are linear in the scale of the adapter.

    Args:
        config: Config of the adapter.
        name: Adapter name to use in error messages.

    Raises:
        InputError: If the weights are not linear in the scale. The message gives the reason.

    Example:
        >>> check_linear({"peft_type": "LORA", "use_rslora": True}, "mine")
    """
    reasons = [reason for key, reason in NOT_LINEAR.items() if config.get(key)]
    if config.get("peft_type") != "LORA":
        reasons = [f"its type is {config.get('peft_type')}, not LORA"]
    elif config.get("bias", "none") != "none":
        reasons.append("trained biases do not scale with the adapter")
    elif config.get("init_lora_weights", True) not in INITIALISATIONS:
        reasons.append(f"`init_lora_weights: {config['init_lora_weights']}` changes the weights of the base")
    if reasons:
        raise InputError(
            f"The adapter '{name}' cannot be scaled by alpha: {reasons[0]}. Interpolate the merged weights instead: "
            "hf-paint interpolate THETA_0 --adapter ADAPTER"
        )


def base_of_adapter(config: Json, base_model_id: str | None = None) -> tuple[str | None, str | None]:
    """Return the Hub repository id and revision of an adapter's base model. Local paths are dropped with a warning.

    Args:
        config: Config of the adapter.
        base_model_id: Hub repository id to use instead of the one in the config.

    Raises:
        InputError: If `base_model_id` is not a valid repository id.
    """
    name, revision = config.get("base_model_name_or_path"), config.get("revision")
    if base_model_id is not None:
        if not is_repo_id(base_model_id):
            raise InputError(f"base_model_id must be the Hub repository id of the base model, got '{base_model_id}'.")
        return base_model_id, revision if name == base_model_id else None
    if name and not is_repo_id(name):
        logger.warning(
            f"Removing the base model '{name}' from the adapter's config, as it is not a Hub repository id. Set "
            "base_model_id to specify the base model."
        )
        return None, None
    return name or None, revision


def read_factors(folder: str | Path, config: Json) -> Factors:
    """Return the factors of an adapter in float32, with the scale folded into A.

    Raises:
        InputError: If the file is damaged, or contains anything other than pairs of factors.
    """
    path = Path(folder) / ADAPTER_WEIGHTS
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error
    for name, tensor in weights.items():
        finite(name, tensor, str(path))
    names = sorted(name.removesuffix(".lora_A.weight") for name in weights if name.endswith(".lora_A.weight"))
    unexpected = weights.keys() ^ {f"{name}.lora_{letter}.weight" for name in names for letter in "AB"}
    if unexpected:
        raise InputError(
            f"{path} cannot be added to other adapters: '{min(unexpected)}' is not one of a pair of factors."
        )
    factors = {}
    for name in names:
        a, b = (weights[f"{name}.lora_{letter}.weight"].float() for letter in "AB")
        if min(a.ndim, b.ndim) < 2 or not len(a):
            raise InputError(f"{path} is damaged: the factors of '{name}' have the shapes {[*a.shape]}, {[*b.shape]}.")
        if b.shape[1] != len(a):  # each group has its own part of A
            raise InputError(f"{path} cannot be added to other adapters: '{name}' is a grouped convolution.")
        module = name.removeprefix(PREFIX)
        factors[module] = (_scale(config, module, len(a)) * a, b)
    return factors


def base_fingerprint_of(folder: str | Path) -> str | None:
    """Return the fingerprint of the base's image tower that an adapter was saved with, or None if it has none."""
    path = Path(folder) / ADAPTER_WEIGHTS
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get(BASE_FINGERPRINT)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged: {error}.") from error


def save_factors(tensors: Mapping[str, Tensor], path: Path, base_fingerprint: str | None) -> None:
    """Write the weights of an adapter with the base's fingerprint as metadata, of which peft reads nothing.

    The same weights give the same bytes: `save_file` writes metadata in random order, so they are sorted afterwards.
    """
    metadata = {"format": "pt"} | ({} if base_fingerprint is None else {BASE_FINGERPRINT: base_fingerprint})
    save_file(dict(tensors), path, metadata=metadata)
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(metadata.items()))
        file.seek(8)
        file.write(json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(size))


def write_adapter(
    folder: Path,
    factors: Factors,
    base: tuple[str | None, str | None] = (None, None),
    base_fingerprint: str | None = None,
) -> None:
    """Write factors as a LoRA adapter with scale 1, where each module can have a different rank.

    Args:
        folder: Output folder.
        factors: Factors for each module.
        base: Hub repository id of the base model, and its revision.
        base_fingerprint: Fingerprint of the base's image tower in float32.

    Raises:
        InputError: If there are no factors.
    """
    if not factors:
        raise InputError("Cannot write a LoRA adapter: no linear layer has changed.")
    rank = max(len(a) for a, _ in factors.values())
    lower = {module: len(a) for module, (a, _) in factors.items() if len(a) != rank}
    config: Json = {"peft_type": "LORA", "task_type": None, "bias": "none", "inference_mode": True}
    config |= {"target_modules": [*factors], "r": rank, "lora_alpha": rank}
    config |= {"rank_pattern": lower, "alpha_pattern": lower}
    tensors = {
        f"{PREFIX}{module}.lora_{letter}.weight": factor.contiguous()
        for module, pair in factors.items()
        for letter, factor in zip("AB", pair, strict=True)
    }
    with save_sealed(folder, replaces=WEIGHTS_AND_HEAD) as partial:
        save_factors(tensors, partial(ADAPTER_WEIGHTS), base_fingerprint)
        write_adapter_config(partial(ADAPTER_CONFIG), config, base)


def write_adapter_config(path: Path, config: Json, base: tuple[str | None, str | None]) -> None:
    """Write the config of an adapter, including the repository id and revision of its base model."""
    keys = dict(zip(("base_model_name_or_path", "revision"), base, strict=True))
    path.write_text(json.dumps({**config, **keys}, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _scale(config: Json, module: str, rank: int) -> float:
    """Return the factor that peft multiplies B @ A by in a module."""
    patterns = (config.get("alpha_pattern") or {}).items()
    matching = (lora_alpha for key, lora_alpha in patterns if re.match(rf"(.*\.)?({key})$", module))
    return float(next(matching, config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank))
