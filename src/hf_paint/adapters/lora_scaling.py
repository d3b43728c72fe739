"""Scale and add LoRA adapters exactly, without requiring the base model or peft."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from hf_paint.adapters.lora_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Factors,
    base_fingerprint_of,
    base_of_adapter,
    check_linear,
    read_adapter_config,
    read_factors,
    write_adapter,
    write_adapter_config,
)
from hf_paint.errors import InputError
from hf_paint.results.alphas import canonical_alpha
from hf_paint.weights.compatibility import check_alpha, check_coefficients
from hf_paint.weights.folders import WEIGHTS_AND_HEAD, check_free
from hf_paint.weights.manifest import save_sealed


def scale_adapter(
    adapter: str | Path,
    alpha: float,
    output_folder: str | Path,
    *,
    base_model_id: str | None = None,
    extrapolate: bool = False,
    overwrite: bool = False,
) -> None:
    """Interpolate between a base model and its LoRA adapter by scaling the adapter with alpha.

    The weight of a LoRA layer is `theta_0 + lora_alpha / r * B @ A`, so multiplying `lora_alpha` by alpha gives
    `theta_alpha`, with or without `use_rslora` (WiSE-FT, Sec. 3). The adapter weights are copied unchanged; only
    `adapter_config.json` is different.

    Args:
        adapter: Folder of an adapter saved by peft.
        alpha: Scale of the adapter. 0 gives the base model and 1 gives the original adapter.
        output_folder: Output folder for the scaled adapter.
        base_model_id: Hub repository id of the base model, if the adapter's config does not contain one.
        extrapolate: Allow an alpha outside [0, 1].
        overwrite: Replace an existing adapter in the output folder.

    Raises:
        InputError: If the adapter cannot be read or is not linear in its scale, alpha is out of range, or the output
            folder already contains a model.

    Example:
        >>> scale_adapter(adapter_folder, 0.25, tmp_path / "alpha-0.25")
        >>> read_adapter_config(tmp_path / "alpha-0.25")["lora_alpha"]
        2.0
    """
    alpha = canonical_alpha(alpha)
    check_alpha(alpha, extrapolate=extrapolate)
    config = read_adapter_config(adapter)
    check_linear(config, adapter)
    base = base_of_adapter(config, base_model_id)
    check_free([Path(output_folder)], [adapter], overwrite=overwrite)
    pattern = {module: value * alpha for module, value in (config.get("alpha_pattern") or {}).items()}
    scaled = config | {"lora_alpha": config["lora_alpha"] * alpha, "alpha_pattern": pattern}
    with save_sealed(Path(output_folder), replaces=WEIGHTS_AND_HEAD) as partial:
        shutil.copyfile(Path(adapter) / ADAPTER_WEIGHTS, partial(ADAPTER_WEIGHTS))
        write_adapter_config(partial(ADAPTER_CONFIG), scaled, base)


def combine_adapters(
    adapters: Mapping[str, str | Path],
    alphas: Mapping[str, float],
    output_folder: str | Path,
    *,
    base_model_id: str | None = None,
    revision: str | None = None,
    overwrite: bool = False,
) -> None:
    """Combine LoRA adapters for the same base model into one: `theta_0 + sum_i alpha_i * (theta_i - theta_0)`.

    The result is exact. The factors are concatenated, with scales and coefficients folded in, so the new rank is the
    sum of the ranks. This is what peft calls `cat`; it is used for parallel patching (PAINT, Sec. 5).

    Args:
        adapters: Name -> folder of an adapter saved by peft.
        alphas: Name -> coefficient, which can be any finite number.
        output_folder: Output folder for the combined adapter.
        base_model_id: Hub repository id of the base model. Defaults to the one in the adapters' configs.
        revision: Revision of `base_model_id`.
        overwrite: Replace an existing adapter in the output folder.

    Raises:
        InputError: If an adapter cannot be read, is not linear in its scale, has no coefficient or has a different
            base model, or if the output folder already contains a model.

    Example:
        >>> adapters = {"mnist": adapter_folder, "cars": adapter_folder}
        >>> combine_adapters(adapters, {"mnist": 0.5, "cars": 0.25}, tmp_path / "both")
        >>> read_adapter_config(tmp_path / "both")["r"]
        8
    """
    check_coefficients(adapters, alphas)
    configs = {name: read_adapter_config(folder) for name, folder in adapters.items()}
    for name, config in configs.items():
        check_linear(config, adapters[name])
    bases = {base_of_adapter(config, base_model_id) for config in configs.values()}
    if base_model_id is None and len(bases) > 1:
        names = ", ".join(sorted(" at ".join(filter(None, base)) or "none" for base in bases))
        raise InputError(
            f"The adapters have different base models: {names}. If these are the same model, set base_model_id."
        )
    base = bases.pop() if base_model_id is None else (base_model_id, revision)
    check_free([Path(output_folder)], [*adapters.values()], overwrite=overwrite)
    factors: Factors = {}
    for name, folder in adapters.items():
        for module, (a, b) in read_factors(folder, configs[name]).items():
            others = factors.get(module, (a[:0], b[:, :0]))
            factors[module] = (torch.cat([others[0], alphas[name] * a]), torch.cat([others[1], b], dim=1))
    fingerprints = {base_fingerprint_of(folder) for folder in adapters.values()}
    write_adapter(Path(output_folder), factors, base, fingerprints.pop() if len(fingerprints) == 1 else None)
