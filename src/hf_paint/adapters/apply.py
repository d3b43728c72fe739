"""Apply patches to their base model: `theta_0 + sum_i alpha_i * (theta_i - theta_0)` (Ilharco et al., 2023)."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor
from transformers import PreTrainedModel

from hf_paint.adapters.changes import Change, open_change
from hf_paint.adapters.differences import tower_fingerprint
from hf_paint.errors import InputError
from hf_paint.files import expand, save_together
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.given import model_of
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import LazyWeights, StoredTower
from hf_paint.models.towers import image_tower_weights, move
from hf_paint.repositories import folder_of
from hf_paint.weights.checkpoints import header_dtype, lay_out
from hf_paint.weights.finite import finite, is_finite, overflow
from hf_paint.weights.folders import COMPANIONS, TASKS, WEIGHTS_AND_HEAD, check_free, copy_companions
from hf_paint.weights.headers import FLOATS, WEIGHTS, StoredTensor, read_checkpoint


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
        patch: Folder or Hub repository id of a patch, of a LoRA adapter or of a patched model (see `open_change`), or
            a mapping from several of them to their alphas. They are added in this order.
        alpha: Fraction of the patch to apply. Defaults to the alpha in its config, or to 1 if it has none.
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
    changes = open_changes(alphas, revision=revision, extrapolate=extrapolate)
    model = base if isinstance(base, PreTrainedModel) else _load_base(str(base), base_revision, changes)
    label = f"the {type(base).__name__} in memory" if isinstance(base, PreTrainedModel) else f"'{base}'"
    tower = image_tower_weights(model)
    _check_base(changes, label, tower_fingerprint(tower), {name: tuple(x_0.shape) for name, x_0 in tower.items()})
    patched = deepcopy(model) if model is base else model
    for name, x_0 in image_tower_weights(patched).items():
        x_0.copy_(_patched(name, finite(name, x_0, label), changes))
        if not is_finite(x_0):
            raise overflow(name, x_0.dtype)
    return patched


def open_changes(
    alphas: Mapping[str | Path, float | None], *, revision: str = "main", extrapolate: bool = False
) -> list[Change]:
    """Open several patches in any form (see `open_change`), with their alphas."""
    if not alphas:
        raise InputError("There is nothing to apply: pass at least one patch.")
    return [open_change(name, alpha, revision=revision, extrapolate=extrapolate) for name, alpha in alphas.items()]


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedBase:
    """The base of patches, verified.

    Attributes:
        name: Hub repository id, `id@revision` or folder, as it was given.
        folder: Folder with its files.
        fingerprint: Fingerprint of its image tower.
    """

    name: str
    folder: Path
    fingerprint: str


def verified_base(base: str | Path, changes: Sequence[Change]) -> AppliedBase:
    """Find the files of a base, downloading them if needed, and check that all patches belong to it.

    Raises:
        InputError: If the base cannot be read or downloaded, or a patch belongs to another base.
    """
    folder = folder_of(model_of(base), [*COMPANIONS, TASKS, *WEIGHTS], _base_revision(str(base), changes))
    tower, tensors = StoredTower(folder), read_checkpoint(folder).tensors
    fingerprint = fingerprint_weights(tower)
    _check_base(changes, f"'{base}'", fingerprint, {name: tensors[name].shape for name in tower})
    return AppliedBase(name=str(base), folder=folder, fingerprint=fingerprint)


def write_patched(
    base: AppliedBase,
    changes: Sequence[Change],
    output: str | Path,
    *,
    files: Mapping[str, str] = MappingProxyType({}),
    save_dtype: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a patched model from file to file, one tensor at a time.

    All tensors outside the image tower, and all files beside the weights, are copied from the base as they are. The
    image tower is bit-identical to that of `apply_patch`.

    Args:
        base: The base, verified.
        changes: Patches to add to it, in this order.
        output: Output folder.
        files: Name -> text of more files to write.
        save_dtype: Dtype of the floating-point tensors, rounded once: `float32`, `bfloat16` or `float16`. Defaults to
            the dtype of the base.
        overwrite: Replace an existing model in the output folder.

    Raises:
        InputError: If `save_dtype` is unknown, or the output folder already contains a model.
    """
    dtype, checkpoint = header_dtype(save_dtype), read_checkpoint(base.folder)
    check_free([Path(output)], [base.folder, *(c.name for c in changes if Path(c.name).is_dir())], overwrite=overwrite)
    stored = LazyWeights(base.folder)
    with save_together(Path(output), replaces=WEIGHTS_AND_HEAD) as partial:
        copy_companions(base.folder, partial, save_dtype)
        for name, place in lay_out(checkpoint, partial, dtype).items():
            _write(name, _patched(name, stored[name], changes), place)
        for name, text in files.items():
            partial(name).write_text(text, encoding="utf-8")


def _load_base(base: str, revision: str | None, changes: Sequence[Change]) -> PreTrainedModel:
    """Load the base model in its stored dtype, by default at the revision given in the patch config."""
    model, _, dtype = load_clip(str(expand(base)), revision=revision or _base_revision(base, changes))
    return move(model, dtype=dtype)


def _base_revision(base: str, changes: Sequence[Change]) -> str:
    """Return the revision of the base that the patches were made from, or `main`."""
    revisions = [change.base_revision for change in changes if change.base_model_id == base]
    return next(filter(None, revisions), "main")


def _check_base(
    changes: Sequence[Change], label: str, fingerprint: str, shapes: Mapping[str, tuple[int, ...]]
) -> None:
    for change in changes:
        if change.base_fingerprint != fingerprint:
            raise InputError(
                f"'{change.name}' belongs to another base model: it needs {change.base}, but the fingerprint of "
                f"the image tower of {label} is {fingerprint}. Apply it to the model that it was made from."
            )
        for name, shape in change.tensors.shapes.items():
            if shapes.get(name) != shape:
                expected = shapes.get(name, "nothing")
                raise InputError(
                    f"'{change.name}' is damaged: it has '{name}' of shape {shape}, but the base model has {expected}."
                )


def _patched(name: str, x_0: Tensor, changes: Sequence[Change]) -> Tensor:
    """Return a tensor of the base with all changes added in float32; itself, if nothing changes it."""
    parts = [part for change in changes if (part := change.part(name, x_0)) is not None]
    if not parts:
        return x_0
    total = x_0.float()
    for difference, alpha in parts:  # each operation rounds, as in `combine`
        total = (difference.to(total) * alpha).add_(total)
    return finite(name, total, "the patched model")


def _write(name: str, tensor: Tensor, place: StoredTensor) -> None:
    """Write a tensor at its place in a file, in the dtype of the place."""
    if place.dtype in FLOATS:
        tensor = tensor.to(getattr(torch, FLOATS[place.dtype]))
        if not is_finite(tensor):
            raise overflow(name, tensor.dtype)
    with place.path.open("r+b") as file:
        file.seek(place.offset)
        file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
