"""The changes of a fine-tuned image tower in any of their forms: a patch, a LoRA adapter, or a whole model.

A change is opened before it is applied: its config is read, and its tensors are read one at a time on demand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from safetensors import SafetensorError, safe_open
from torch import Tensor

from hf_paint.adapters.differences import CODES, exact_difference
from hf_paint.adapters.lora_files import (
    ADAPTER_CONFIG,
    ADAPTER_WEIGHTS,
    Factors,
    base_fingerprint_of,
    base_of_adapter,
    check_linear,
    read_adapter_config,
    read_factors,
)
from hf_paint.adapters.patch_config import PATCH_CONFIG, PATCH_WEIGHTS, describe_base, patch_file, read_patch_config
from hf_paint.errors import InputError
from hf_paint.models.card_file import facts_of, read_card_metadata
from hf_paint.models.given import model_of
from hf_paint.models.stored import StoredTower
from hf_paint.repositories import commit_of, fetch, folder_of
from hf_paint.results.alphas import canonical_alpha
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.compatibility import check_alpha
from hf_paint.weights.finite import finite
from hf_paint.weights.folders import HEAD_CONFIG
from hf_paint.weights.headers import WEIGHTS, read_checkpoint


Shape = tuple[int, ...]


class Tensors(Protocol):
    """The tensors of a change."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Name of each tensor that changes -> its shape."""

    def difference(self, name: str, x_0: Tensor) -> Tensor:
        """Return the change of a tensor, given the tensor of the base, as float32."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """A change to an image tower.

    Attributes:
        name: Name under which it was given.
        tensors: Its tensors.
        alpha: Fraction of it to apply; None if it has no default.
        base_fingerprint: Fingerprint of the base's image tower in float32.
        base_model_id: Hub repository id of the base, if known.
        base_revision: Branch or commit of the base, if known.
    """

    name: str
    tensors: Tensors
    alpha: float | None
    base_fingerprint: str
    base_model_id: str | None = None
    base_revision: str | None = None

    @property
    def base(self) -> str:
        """Description of the base for messages."""
        return describe_base(self.base_fingerprint, self.base_model_id, self.base_revision)

    def part(self, name: str, x_0: Tensor) -> tuple[Tensor, float] | None:
        """Return the difference of a tensor and the fraction of it to add; None if the tensor does not change."""
        return (self.tensors.difference(name, x_0), self.alpha) if self.alpha and name in self.tensors.shapes else None


def open_change(
    name: str | Path, alpha: float | None = None, *, revision: str = "main", extrapolate: bool = False
) -> Change:
    """Open a change in any form.

    Args:
        name: Folder, Hub repository id or `id@revision` of a patch, of a LoRA adapter, or of a model patched by
            hf_paint, whose change is its difference from the base; or a run folder, for its patched model.
        alpha: Fraction to apply. Defaults to the alpha in the config of a patch, and to 1 for the other forms.
        revision: Branch, tag or commit on the Hub.
        extrapolate: Allow an alpha outside [0, 1].

    Raises:
        InputError: If it cannot be read, does not say which base it belongs to, or the alpha is missing or not valid.
    """
    name = model_of(name)
    if (config := fetch(name, PATCH_CONFIG, revision)) is not None:
        change = _open_patch(name, config.parent, revision)
    elif (config := fetch(name, ADAPTER_CONFIG, revision)) is not None:
        change = _open_adapter(name, config.parent, revision)
    elif fetch(name, "config.json", revision) is not None:
        change = _open_model(name, revision)
    else:
        raise InputError(
            f"'{name}' is not a patch: it has no {PATCH_CONFIG}. It has no {ADAPTER_CONFIG} or config.json either, so "
            "it is no LoRA adapter and no model."
        )
    alpha = change.alpha if alpha is None else alpha
    if alpha is None:
        raise InputError(f"The config of '{name}' does not contain an alpha. Pass one, e.g. alpha=0.5.")
    alpha = canonical_alpha(alpha)
    check_alpha(alpha, extrapolate=extrapolate)
    return replace(change, alpha=alpha)


@dataclass(frozen=True, slots=True, eq=False)
class _Differences:
    """The tensors of a patch, which are differences."""

    file: safe_open
    shapes: Mapping[str, Shape]
    owner: str

    def difference(self, name: str, x_0: Tensor) -> Tensor:
        stored: Tensor = self.file.get_tensor(name)
        return finite(name, stored.float(), f"the patch '{self.owner}'")


@dataclass(frozen=True, slots=True, eq=False)
class _Products:
    """The tensors of a LoRA adapter, which are products of two factors."""

    factors: Factors
    shapes: Mapping[str, Shape]

    def difference(self, name: str, x_0: Tensor) -> Tensor:
        a, b = self.factors[name.removesuffix(".weight")]
        return (b.flatten(1) @ a.flatten(1)).reshape(self.shapes[name])


@dataclass(frozen=True, slots=True, eq=False)
class _Weights:
    """The tensors of a model, from which those of the base are subtracted."""

    tower: StoredTower
    shapes: Mapping[str, Shape]

    def difference(self, name: str, x_0: Tensor) -> Tensor:
        return exact_difference(x_0, self.tower[name])


def _open_patch(name: str | Path, folder: Path, revision: str) -> Change:
    config = read_patch_config(folder)
    path = patch_file(name, PATCH_WEIGHTS, commit_of(folder) or revision)  # the branch may have moved
    try:
        file = safe_open(path, framework="pt")
        slices = {tensor: file.get_slice(tensor) for tensor in file.keys()}  # noqa: SIM118
        dtypes = {entry.get_dtype() for entry in slices.values()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"The {PATCH_WEIGHTS} of '{name}' is damaged: {error}.") from error
    if not dtypes <= {CODES[config.dtype]}:
        raise InputError(
            f"'{name}' is damaged: its weights are {', '.join(sorted(dtypes))}, but its config says {config.dtype}."
        )
    return Change(
        name=str(name),
        tensors=_Differences(file, {key: tuple(entry.get_shape()) for key, entry in slices.items()}, str(name)),
        alpha=config.alpha,
        base_fingerprint=config.base_fingerprint,
        base_model_id=config.base_model_id,
        base_revision=config.base_revision,
    )


def _open_adapter(name: str | Path, folder: Path, revision: str) -> Change:
    fetch(name, ADAPTER_WEIGHTS, commit_of(folder) or revision)
    config = read_adapter_config(folder)
    check_linear(config, name)
    base_id, base_revision = base_of_adapter(config)
    fingerprint = base_fingerprint_of(folder) or _base_of_run(folder)
    if fingerprint is None:
        raise InputError(
            f"The adapter '{name}' does not contain the fingerprint of its base, so the base cannot be verified. If "
            "it is the right one, run: hf-paint interpolate BASE --adapter ADAPTER --alphas ALPHA --output_dir DIR"
        )
    factors = read_factors(folder, config)
    shapes = {f"{module}.weight": (len(b), *a.shape[1:]) for module, (a, b) in factors.items()}
    return Change(
        name=str(name),
        tensors=_Products(factors, shapes),
        alpha=1.0,
        base_fingerprint=fingerprint,
        base_model_id=base_id,
        base_revision=base_revision,
    )


def _open_model(name: str | Path, revision: str) -> Change:
    folder = folder_of(name, ["config.json", "README.md", HEAD_CONFIG, *WEIGHTS], revision)
    card = folder / "README.md"
    facts = facts_of(read_card_metadata(card)) if card.is_file() else {}
    fingerprint = facts.get("base_fingerprint") if facts else _base_of_run(folder)
    if not isinstance(fingerprint, str):
        raise InputError(
            f"'{name}' does not say which base it was made from, as patches and models patched by hf_paint do. "
            "Combine other models with `combine_checkpoints`, or make a patch with `save_patch`."
        )
    if (folder / HEAD_CONFIG).is_file():
        raise InputError(f"'{name}' has a trained head, which cannot be added to another model.")
    tower, tensors = StoredTower(folder), read_checkpoint(folder).tensors
    shapes = {tensor: tensors[tensor].shape for tensor in tower}
    return Change(name=str(name), tensors=_Weights(tower, shapes), alpha=1.0, base_fingerprint=fingerprint)


def _base_of_run(folder: Path) -> str | None:
    """Return the fingerprint of the base of the run that a folder is part of, or None if it is in no run."""
    run = RunFolder(folder.resolve().parent)
    fingerprint = run.load_recipe().get("base_fingerprint") if run.recipe.is_file() else None
    return None if fingerprint is None else str(fingerprint)
