"""Save the change made by fine-tuning an image tower as a patch."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from hf_paint.adapters.differences import CODES, exact_difference, is_same, tower_fingerprint
from hf_paint.adapters.patch_config import PATCH_CONFIG, PATCH_WEIGHTS, PatchConfig, PatchDtype
from hf_paint.errors import InputError
from hf_paint.results.alphas import canonical_alpha
from hf_paint.weights.compatibility import check_compatible
from hf_paint.weights.finite import finite
from hf_paint.weights.headers import StoredTensor, WeightFile
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import save_sealed


def save_patch(
    theta_0: Mapping[str, Tensor],
    theta_1: Mapping[str, Tensor],
    folder: str | Path,
    *,
    base_model_id: str | None = None,
    base_revision: str | None = None,
    alpha: float | None = None,
    dtype: PatchDtype = "float32",
    patching_tasks: Sequence[str] = (),
) -> PatchConfig:
    """Save the difference `theta_1 - theta_0` for an image tower as a patch.

    Differences are stored in float32, or rounded once to bfloat16. Unchanged tensors are omitted. Within the other
    tensors, unchanged weights are stored as -0.0, since adding -0.0 leaves every weight bit-identical, even -0.0.

    Args:
        theta_0: Image tower weights before fine-tuning, as returned by `image_tower_weights`.
        theta_1: Image tower weights after fine-tuning.
        folder: Output folder for `patch.safetensors` and `patch_config.json`.
        base_model_id: Hub repository id of the base model.
        base_revision: Branch or commit of the base model.
        alpha: Selected alpha, used by default when the patch is applied.
        dtype: Dtype of the stored differences. `bfloat16` needs half the space, with a relative error of at most 1/256
            per difference.
        patching_tasks: Names of the patching tasks.

    Returns:
        The config of the patch.

    Raises:
        InputError: If the weights do not match, or are not from an image tower.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: tensor + 0.01 for name, tensor in theta_0.items()}
        >>> save_patch(theta_0, theta_1, tmp_path / "patch", alpha=0.5, dtype="bfloat16").alpha
        0.5
    """
    check_compatible(theta_0, theta_1)
    unexpected = [name for name in theta_0 if not name.startswith(IMAGE_TOWER)]
    if unexpected:
        raise InputError(f"A patch contains only the image tower, and '{unexpected[0]}' is not part of it.")
    if dtype not in CODES:
        raise InputError(f"The patch dtype must be one of {', '.join(CODES)}, got '{dtype}'.")
    config = PatchConfig(
        base_fingerprint=tower_fingerprint(theta_0),
        base_model_id=base_model_id,
        base_revision=base_revision,
        alpha=None if alpha is None else canonical_alpha(alpha),
        dtype=dtype,
        patching_tasks=tuple(patching_tasks),
    )
    with save_sealed(Path(folder), replaces=[PATCH_CONFIG]) as partial:  # the config marks the patch as complete
        _write_differences(theta_0, theta_1, partial(PATCH_WEIGHTS), dtype)
        partial(PATCH_CONFIG).write_text(config.to_json(), encoding="utf-8")
    return config


@torch.no_grad()
def _write_differences(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], path: Path, dtype: PatchDtype
) -> None:
    """Write the differences one tensor at a time, so that a third tower never needs to fit in memory."""
    changed = [name for name in sorted(theta_0) if not is_same(theta_0[name], theta_1[name]).all()]
    code = CODES[dtype]
    places = {name: StoredTensor(path, code, tuple(theta_0[name].shape), 0) for name in changed}
    header, _ = WeightFile(path, places, {"format": "pt"}).stored_at(path)
    with path.open("wb") as file:
        file.write(header)
        for name in changed:
            x_0, x_1 = finite(name, theta_0[name], "theta_0"), finite(name, theta_1[name], "theta_1")
            difference = finite(name, exact_difference(x_0, x_1).to(getattr(torch, dtype)), "theta_1 - theta_0")
            file.write(difference.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
