"""Extract LoRA adapters from a fine-tuned model, using a truncated SVD of the change in each linear layer."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from hf_paint.adapters.differences import tower_fingerprint
from hf_paint.adapters.lora_files import Factors, read_adapter_config, read_factors, write_adapter
from hf_paint.errors import InputError
from hf_paint.files import write_json
from hf_paint.models.devices import to_float64
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import checked
from hf_paint.weights.folders import check_free
from hf_paint.weights.layers import POOLING_ATTENTION


REPORT = "extraction.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class LoraExtraction:
    """Fractions of the change made by fine-tuning, `||theta_1 - theta_0||^2`, that adapters of each rank preserve.

    Attributes:
        kept: Rank -> fraction of the change in the whole image tower that is preserved.
        kept_of_linear: Rank -> fraction of the change in all linear layers that is preserved.
        layers: Linear layer -> rank -> fraction of the change in this layer that is preserved.
        left_out: Tensor that the adapters do not cover (layer norms, biases, embeddings, convolutions) -> its fraction
            of the change in the image tower. Unchanged tensors are omitted.
    """

    kept: dict[int, float]
    kept_of_linear: dict[int, float]
    layers: dict[str, dict[int, float]]
    left_out: dict[str, float]


@torch.no_grad()
def extract_lora(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    ranks: Sequence[int],
    output_dir: str | Path,
    *,
    base: tuple[str | None, str | None] = (None, None),
    overwrite: bool = False,
) -> LoraExtraction:
    """Approximate the change made by fine-tuning with LoRA adapters, one for each rank.

    In each linear layer, the adapter is the best approximation of its rank in the Frobenius norm, given by the largest
    singular values and their vectors (Eckart and Young, 1936).

    Args:
        theta_0: Image tower weights before fine-tuning. Tensors are read one at a time.
        theta_1: Image tower weights after fine-tuning.
        ranks: Adapter ranks. In layers too small for a rank, the rank is reduced to the smaller matrix dimension.
        output_dir: Output folder. Adapters go to `rank-8` etc., and the preserved fractions to `extraction.json`.
        base: Hub repository id of theta_0, and its revision.
        overwrite: Replace existing adapters.

    Returns:
        The fractions of the change that each rank preserves.

    Raises:
        InputError: If the weights do not match, no linear layer has changed, a rank is below 1, or an output folder
            already contains a model.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: tensor + 0.01 for name, tensor in theta_0.items()}
        >>> extraction = extract_lora(theta_0, theta_1, [1, 4], tmp_path / "lora")
        >>> round(extraction.kept_of_linear[1], 4)
        1.0
    """
    if not ranks or min(ranks) < 1:
        raise InputError(f"Ranks must be integers of at least 1, got {list(ranks)}.")
    check_compatible(theta_0, theta_1)
    theta_0, theta_1 = checked(theta_0, "theta_0"), checked(theta_1, "theta_1")
    folders = {rank: Path(output_dir) / f"rank-{rank}" for rank in sorted(set(ranks))}
    check_free([*folders.values()], [], overwrite=overwrite)
    factors: Factors = {}
    squared: dict[str, float] = {}
    layers: dict[str, dict[int, float]] = {}
    for name in tqdm(theta_0, "Decomposing", unit="tensor", leave=False):
        change = theta_1[name].float() - theta_0[name].float()
        squared[name] = float(to_float64(change).square().sum())
        if squared[name] and _is_linear(name, change):
            module = name.removesuffix(".weight")
            factors[module], energies = _decompose(change, max(folders))
            layers[module] = {rank: min(1.0, float(energies[:rank].sum()) / squared[name]) for rank in folders}
    fingerprint = tower_fingerprint(theta_0)
    for rank, folder in folders.items():
        cut = {module: (a[:rank], b[:, :rank]) for module, (a, b) in factors.items()}
        write_adapter(folder, cut, base, fingerprint)
    extraction = _extraction(squared, layers)
    write_json(Path(output_dir) / REPORT, asdict(extraction))
    return extraction


def adapted_weights(theta_0: Mapping[str, Tensor], adapter: str | Path) -> dict[str, Tensor]:
    """Return theta_0 with an adapter merged into it, i.e. with B @ A added to each adapted layer, in float32.

    For convolutions, A has the kernel size of the layer and B is a 1x1 kernel.

    Raises:
        InputError: If the adapter cannot be read, or if its layers do not match theta_0.
    """
    theta_1 = {name: tensor.float() for name, tensor in theta_0.items()}
    for module, (a, b) in read_factors(adapter, read_adapter_config(adapter)).items():
        name, shape = f"{module}.weight", (len(b), *a.shape[1:])
        if name not in theta_1 or theta_1[name].shape != shape:
            raise InputError(f"The adapter '{adapter}' belongs to another model, with a '{name}' of shape {shape}.")
        theta_1[name] = theta_1[name] + (b.flatten(1) @ a.flatten(1)).view(shape)
    return theta_1


def _is_linear(name: str, weight: Tensor) -> bool:
    adaptable = name.endswith(".weight") and ".embeddings." not in name and not name.startswith(POOLING_ATTENTION)
    return adaptable and weight.ndim == 2


def _decompose(change: Tensor, rank: int) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return A and B with the given rank, or less for small matrices, and all squared singular values."""
    u, s, v = torch.linalg.svd(change, full_matrices=False)
    root = s[:rank].sqrt()
    return (root[:, None] * v[:rank], u[:, :rank] * root), to_float64(s).square()


def _extraction(squared: Mapping[str, float], layers: dict[str, dict[int, float]]) -> LoraExtraction:
    total = sum(squared.values())
    linear = {module: squared[f"{module}.weight"] for module in layers}
    left_out = {name: of / total for name, of in squared.items() if of and name.removesuffix(".weight") not in linear}
    kept = {
        rank: sum(linear[module] * layers[module][rank] for module in layers) for rank in next(iter(layers.values()))
    }
    return LoraExtraction(
        kept={rank: of / total for rank, of in kept.items()},
        kept_of_linear={rank: of / sum(linear.values()) for rank, of in kept.items()},
        layers=layers,
        left_out=left_out,
    )
