"""A patch as a small file: what fine-tuning changed in the image tower, saved by itself and added to a base."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from transformers import PreTrainedModel

from hf_paint.adapters.patch_config import (
    PATCH_CONFIG,
    PATCH_WEIGHTS,
    PatchConfig,
    PatchDtype,
    patch_file,
    read_patch_config,
)
from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower_weights
from hf_paint.weights.compatibility import check_alpha, check_compatible
from hf_paint.weights.headers import StoredTensor, WeightFile
from hf_paint.weights.layers import IMAGE_TOWER


_CODES = {"float32": "F32", "bfloat16": "BF16"}
"""What the header of a safetensors file calls the dtypes of a patch."""


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
    """Save what fine-tuning changed: `theta_1 - theta_0` of the image tower, in float32 or rounded once to bfloat16.

    Tensors that did not change are left out. In the others a weight that did not change is -0.0, the one number that
    changes no weight to which it is added, not even another -0.0.

    Args:
        theta_0: The image tower before fine-tuning, as `image_tower_weights` returns it.
        theta_1: The image tower after fine-tuning.
        folder: Where `patch.safetensors` and `patch_config.json` are written.
        base_model_id: The id of the base on the Hub.
        base_revision: The branch or the commit of the base.
        alpha: The alpha that was chosen.
        dtype: `bfloat16` takes half the space; each difference is then off by at most 1/256 of itself.
        patching_tasks: The names of the tasks that were patched.

    Returns:
        What the patch says of itself.

    Raises:
        InputError: If the weights do not fit together, or are not those of an image tower.

    Example:
        >>> theta_0 = image_tower_weights(model)
        >>> theta_1 = {name: tensor + 0.01 for name, tensor in theta_0.items()}
        >>> save_patch(theta_0, theta_1, tmp_path / "patch", alpha=0.5, dtype="bfloat16").alpha
        0.5
    """
    check_compatible(theta_0, theta_1)
    strangers = [name for name in theta_0 if not name.startswith(IMAGE_TOWER)]
    if strangers:
        raise InputError(f"A patch holds the image tower alone, and '{strangers[0]}' is no part of it.")
    if dtype not in _CODES:
        raise InputError(f"The dtype of a patch must be one of {', '.join(_CODES)}, got '{dtype}'.")
    config = PatchConfig(
        base_fingerprint=_fingerprint(theta_0),
        base_model_id=base_model_id,
        base_revision=base_revision,
        alpha=alpha,
        dtype=dtype,
        patching_tasks=tuple(patching_tasks),
    )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f"{PATCH_WEIGHTS}.partial"
    _write_differences(theta_0, theta_1, partial, dtype)
    (folder / PATCH_CONFIG).unlink(missing_ok=True)  # without it, there is no patch
    partial.replace(folder / PATCH_WEIGHTS)
    (folder / PATCH_CONFIG).write_text(config.to_json(), encoding="utf-8")
    return config


def apply_patch(
    base: str | Path | PreTrainedModel,
    patch: str | Path | Mapping[str | Path, float | None],
    alpha: float | None = None,
    *,
    revision: str = "main",
    base_revision: str | None = None,
    extrapolate: bool = False,
) -> PreTrainedModel:
    """Apply a patch, or several, to the model for which it was made.

    `theta_0 + alpha * (theta_1 - theta_0)`, with a sum over the patches, computed in float32 and rounded once to the
    dtype of the base. With float32 patches it is `interpolate` or `combine` of the models bit for bit; only alpha 1,
    where they return theta_1 itself, is a rounding away from it.

    Args:
        base: The model: an id on the Hub, a folder, or a model in memory, which is not changed.
        patch: A folder or an id on the Hub; or several, and the alpha of each. They are added in that order.
        alpha: How much of the patch; by default the alpha that was chosen when it was made.
        revision: A branch, tag or commit of the patches on the Hub.
        base_revision: The same of the base; by default the revision for which the patch was made.
        extrapolate: Allow an alpha outside [0, 1].

    Returns:
        The patched model. Everything but its image tower is the base's.

    Raises:
        InputError: If a patch cannot be read or was made for another base, or an alpha is missing or out of range.

    Example:
        >>> patched = apply_patch(model_folder, patch_folder, alpha=0.3)
        >>> torch.equal(patched.text_projection.weight, model.text_projection.weight)
        True
    """
    if isinstance(patch, Mapping) and alpha is not None:
        raise InputError("Several patches have their alphas beside them, {patch: alpha}; leave out alpha.")
    alphas = patch if isinstance(patch, Mapping) else {patch: alpha}
    patches = [_open_patch(name, value, revision, extrapolate) for name, value in alphas.items()]
    model = base if isinstance(base, PreTrainedModel) else _load_base(str(base), base_revision, patches)
    _check_base(model, base, patches)
    patched = deepcopy(model) if model is base else model
    for name, x_0 in image_tower_weights(patched).items():
        parts = [(patch.weights.get_tensor(name), patch.alpha) for patch in patches if patch.moves(name)]
        if parts:
            x_0.copy_(_add(x_0, parts))
    return patched


@dataclass(frozen=True, slots=True)
class _Patch:
    """A patch that is about to be applied; its tensors are read when they are needed."""

    name: str
    config: PatchConfig
    weights: Any  # an open safetensors file
    shapes: dict[str, tuple[int, ...]]
    alpha: float

    def moves(self, name: str) -> bool:
        return name in self.shapes and self.alpha != 0


def _open_patch(patch: str | Path, alpha: float | None, revision: str, extrapolate: bool) -> _Patch:
    folder = patch_file(patch, PATCH_CONFIG, revision).parent
    config = read_patch_config(folder)
    alpha = config.alpha if alpha is None else alpha
    if alpha is None:
        raise InputError(f"No alpha was chosen when '{patch}' was made. Give one: alpha=0.5.")
    check_alpha(alpha, extrapolate=extrapolate)
    path = patch_file(patch, PATCH_WEIGHTS, folder.name)  # what is downloaded lies in a folder named by its commit
    try:
        weights: Any = safe_open(path, framework="pt")
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        dtypes = {entry.get_dtype() for entry in slices.values()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"The {PATCH_WEIGHTS} of '{patch}' is damaged: {error}.") from error
    if not dtypes <= {_CODES[config.dtype]}:
        raise InputError(f"'{patch}' is damaged: it holds {', '.join(sorted(dtypes))}, and says {config.dtype}.")
    return _Patch(str(patch), config, weights, {name: tuple(x.get_shape()) for name, x in slices.items()}, alpha)


def _load_base(base: str, revision: str | None, patches: Sequence[_Patch]) -> PreTrainedModel:
    """Load the base in the dtype in which it is stored, at the revision that a patch of it names."""
    named = [patch.config.base_revision for patch in patches if patch.config.base_model_id == base]
    revision = revision or next(filter(None, named), "main")
    model, _, dtype = load_clip(str(Path(base).expanduser()), revision=revision)
    cast(nn.Module, model).to(dtype)
    return model


def _check_base(model: PreTrainedModel, base: str | Path | PreTrainedModel, patches: Sequence[_Patch]) -> None:
    tower = image_tower_weights(model)
    fingerprint = _fingerprint(tower)
    given = f"the {type(base).__name__} in memory" if isinstance(base, PreTrainedModel) else f"'{base}'"
    for patch in patches:
        if patch.config.base_fingerprint != fingerprint:
            raise InputError(
                f"'{patch.name}' is a patch of another base: it needs {patch.config.base}, but the image tower of "
                f"{given} is {fingerprint}."
            )
        for name, shape in patch.shapes.items():
            if name not in tower or tuple(tower[name].shape) != shape:
                there = tuple(tower[name].shape) if name in tower else "nothing"
                raise InputError(f"'{patch.name}' is damaged: it has '{name}' of shape {shape}, the base {there}.")


def _add(x_0: Tensor, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    total = x_0.float()
    for difference, alpha in parts:  # each operation rounds, as in `combine`
        total = (difference.to(total) * alpha).add_(total)
    return total


@torch.no_grad()
def _write_differences(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], path: Path, dtype: PatchDtype
) -> None:
    """Write tensor by tensor, so that no third tower is in memory."""
    moved = [name for name in sorted(theta_0) if not _same(theta_0[name], theta_1[name]).all()]
    code = _CODES[dtype]
    places = {name: StoredTensor(path, code, tuple(theta_0[name].shape), 0) for name in moved}
    header, _ = WeightFile(path, places, {"format": "pt"}).stored_at(path)
    with path.open("wb") as file:
        file.write(header)
        for name in moved:
            x_0, x_1 = theta_0[name], theta_1[name]
            difference = (x_1.float() - x_0.float()).masked_fill_(_same(x_0, x_1), -0.0).to(getattr(torch, dtype))
            file.write(difference.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _same(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return where the bits are equal in float32."""
    return x_0.float().view(torch.int32) == x_1.float().view(torch.int32)


def _fingerprint(tower: Mapping[str, Tensor]) -> str:
    return fingerprint_weights({name: tensor.float() for name, tensor in tower.items()})
