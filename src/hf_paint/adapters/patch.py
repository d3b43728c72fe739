"""Save the change made by fine-tuning an image tower as a patch, and apply patches to a base model."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
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
from hf_paint.files import save_together
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import image_tower_weights, move
from hf_paint.repositories import commit_of
from hf_paint.results.alphas import canonical_alpha
from hf_paint.weights.compatibility import check_alpha, check_compatible
from hf_paint.weights.headers import StoredTensor, WeightFile
from hf_paint.weights.layers import IMAGE_TOWER


_CODES = {"float32": "F32", "bfloat16": "BF16"}
"""Patch dtype -> its name in a safetensors header."""


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
    if dtype not in _CODES:
        raise InputError(f"The patch dtype must be one of {', '.join(_CODES)}, got '{dtype}'.")
    config = PatchConfig(
        base_fingerprint=_fingerprint(theta_0),
        base_model_id=base_model_id,
        base_revision=base_revision,
        alpha=None if alpha is None else canonical_alpha(alpha),
        dtype=dtype,
        patching_tasks=tuple(patching_tasks),
    )
    with save_together(Path(folder), replaces=[PATCH_CONFIG]) as partial:  # the config marks the patch as complete
        _write_differences(theta_0, theta_1, partial(PATCH_WEIGHTS), dtype)
        partial(PATCH_CONFIG).write_text(config.to_json(), encoding="utf-8")
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
    """Apply one or more patches to their base model.

    The result is `theta_0 + alpha * (theta_1 - theta_0)`, summed over all patches, computed in float32 and rounded
    once to the dtype of the base model. With float32 patches, it is bit-identical to `interpolate` or `combine`,
    except at alpha 1, where those return theta_1 itself and this function returns a rounded sum.

    Args:
        base: Hub repository id, folder, or model in memory. A model in memory is left unchanged.
        patch: Folder or Hub repository id of a patch, or a mapping from several patches to their alphas. Patches are
            added in this order.
        alpha: Fraction of the patch to apply. Defaults to the alpha in its config.
        revision: Branch, tag or commit of the patches on the Hub.
        base_revision: Branch, tag or commit of the base model. Defaults to the one in the patch config.
        extrapolate: Allow an alpha outside [0, 1].

    Returns:
        The patched model, which differs from the base model only in the image tower.

    Raises:
        InputError: If a patch cannot be read or belongs to another base model, or if an alpha is missing or out of
            range.

    Example:
        >>> patched = apply_patch(model_folder, patch_folder, alpha=0.3)
        >>> torch.equal(patched.text_projection.weight, model.text_projection.weight)
        True
    """
    if isinstance(patch, Mapping) and alpha is not None:
        raise InputError("Pass either one patch and `alpha`, or {patch: alpha} for several patches, but not both.")
    alphas = patch if isinstance(patch, Mapping) else {patch: alpha}
    patches = [_open_patch(name, value, revision, extrapolate) for name, value in alphas.items()]
    model = base if isinstance(base, PreTrainedModel) else _load_base(str(base), base_revision, patches)
    _check_base(model, base, patches)
    patched = deepcopy(model) if model is base else model
    for name, x_0 in image_tower_weights(patched).items():
        parts = [(patch.weights.get_tensor(name), patch.alpha) for patch in patches if patch.changes(name)]
        if parts:
            x_0.copy_(_add(x_0, parts))
    return patched


@dataclass(frozen=True, slots=True)
class _Patch:
    """Open patch file, from which tensors are read on demand."""

    name: str
    config: PatchConfig
    weights: safe_open
    shapes: dict[str, tuple[int, ...]]
    alpha: float

    def changes(self, name: str) -> bool:
        return name in self.shapes and self.alpha != 0


def _open_patch(patch: str | Path, alpha: float | None, revision: str, extrapolate: bool) -> _Patch:
    folder = patch_file(patch, PATCH_CONFIG, revision).parent
    config = read_patch_config(folder)
    alpha = config.alpha if alpha is None else alpha
    if alpha is None:
        raise InputError(f"The config of '{patch}' does not contain an alpha. Pass one, e.g. alpha=0.5.")
    alpha = canonical_alpha(alpha)
    check_alpha(alpha, extrapolate=extrapolate)
    path = patch_file(patch, PATCH_WEIGHTS, commit_of(folder) or revision)  # the branch may have moved
    try:
        weights = safe_open(path, framework="pt")
        slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
        dtypes = {entry.get_dtype() for entry in slices.values()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"The {PATCH_WEIGHTS} of '{patch}' is damaged: {error}.") from error
    if not dtypes <= {_CODES[config.dtype]}:
        raise InputError(
            f"'{patch}' is damaged: its weights are {', '.join(sorted(dtypes))}, but its config says {config.dtype}."
        )
    return _Patch(str(patch), config, weights, {name: tuple(x.get_shape()) for name, x in slices.items()}, alpha)


def _load_base(base: str, revision: str | None, patches: Sequence[_Patch]) -> PreTrainedModel:
    """Load the base model in its stored dtype, by default at the revision given in the patch config."""
    revisions = [patch.config.base_revision for patch in patches if patch.config.base_model_id == base]
    revision = revision or next(filter(None, revisions), "main")
    model, _, dtype = load_clip(base, revision=revision)
    return move(model, dtype=dtype)


def _check_base(model: PreTrainedModel, base: str | Path | PreTrainedModel, patches: Sequence[_Patch]) -> None:
    tower = image_tower_weights(model)
    fingerprint = _fingerprint(tower)
    label = f"the {type(base).__name__} in memory" if isinstance(base, PreTrainedModel) else f"'{base}'"
    for patch in patches:
        if patch.config.base_fingerprint != fingerprint:
            raise InputError(
                f"'{patch.name}' belongs to another base model: it needs {patch.config.base}, but the fingerprint of "
                f"the image tower of {label} is {fingerprint}."
            )
        for name, shape in patch.shapes.items():
            if name not in tower or tuple(tower[name].shape) != shape:
                expected = tuple(tower[name].shape) if name in tower else "nothing"
                raise InputError(
                    f"'{patch.name}' is damaged: it has '{name}' of shape {shape}, but the base model has {expected}."
                )


def _add(x_0: Tensor, parts: Sequence[tuple[Tensor, float]]) -> Tensor:
    total = x_0.float()
    for difference, alpha in parts:  # each operation rounds, as in `combine`
        total = (difference.to(total) * alpha).add_(total)
    return total


@torch.no_grad()
def _write_differences(
    theta_0: Mapping[str, Tensor], theta_1: Mapping[str, Tensor], path: Path, dtype: PatchDtype
) -> None:
    """Write the differences one tensor at a time, so that a third tower never needs to fit in memory."""
    changed = [name for name in sorted(theta_0) if not _same(theta_0[name], theta_1[name]).all()]
    code = _CODES[dtype]
    places = {name: StoredTensor(path, code, tuple(theta_0[name].shape), 0) for name in changed}
    header, _ = WeightFile(path, places, {"format": "pt"}).stored_at(path)
    with path.open("wb") as file:
        file.write(header)
        for name in changed:
            x_0, x_1 = theta_0[name], theta_1[name]
            difference = (x_1.float() - x_0.float()).masked_fill_(_same(x_0, x_1), -0.0).to(getattr(torch, dtype))
            file.write(difference.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _same(x_0: Tensor, x_1: Tensor) -> Tensor:
    """Return a mask of the elements that are bitwise equal in float32."""
    return x_0.float().view(torch.int32) == x_1.float().view(torch.int32)


def _fingerprint(tower: Mapping[str, Tensor]) -> str:
    return fingerprint_weights({name: tensor.float() for name, tensor in tower.items()})
