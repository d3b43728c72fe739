"""Locate the files of a patch in a folder or on the Hub, and read its config. Does not import torch."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError
from hf_paint.repositories import fetch
from hf_paint.results.alphas import canonical_alpha
from hf_paint.weights.manifest import check_whole


PATCH_CONFIG = "patch_config.json"
PATCH_WEIGHTS = "patch.safetensors"
FORMAT_VERSION = 1

PatchDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """Config of a patch, stored as `patch_config.json`.

    Attributes:
        base_fingerprint: Fingerprint of the base model's image tower, in float32.
        base_model_id: Hub repository id of the base model, if any.
        base_revision: Branch or commit of the base model.
        alpha: Selected alpha, used by default when the patch is applied.
        dtype: Dtype of the stored differences.
        patching_tasks: Names of the patching tasks.
        format_version: Version of the patch format.
    """

    base_fingerprint: str
    base_model_id: str | None = None
    base_revision: str | None = None
    alpha: float | None = None
    dtype: PatchDtype = "float32"
    patching_tasks: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        """Return the config as JSON."""
        return json.dumps(asdict(self), indent=2) + "\n"


def describe_base(fingerprint: str, model_id: str | None, revision: str | None) -> str:
    """Return a description of a base model for error messages."""
    name = model_id or "a model without a Hub repository id"
    at = f" at revision {revision}" if revision else ""
    return f"{name}{at} (image tower {fingerprint})"


def read_patch_config(patch: str | Path, revision: str = "main") -> PatchConfig:
    """Read the config of a patch.

    Args:
        patch: Folder or Hub repository id of the patch.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: If `patch` is not a patch, cannot be read, or has an unknown format version.

    Example:
        >>> read_patch_config(patch_folder).alpha
        0.5
    """
    path = patch_file(patch, PATCH_CONFIG, revision)
    check_whole(path.parent)
    try:
        values = read_json(path) or {}
        version = values["format_version"]
        if version == FORMAT_VERSION:
            return _checked(PatchConfig(**{field.name: values[field.name] for field in fields(PatchConfig)}))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The {PATCH_CONFIG} of '{patch}' is damaged: {type(error).__name__}: {error}.") from error
    raise InputError(
        f"'{patch}' uses patch format version {version}, but this version of hf_paint only reads {FORMAT_VERSION}. "
        "Update hf_paint."
    )


def patch_file(patch: str | Path, name: str, revision: str) -> Path:
    """Return the path to a file of a patch, downloading it if the patch is on the Hub.

    Raises:
        InputError: If the patch or the file does not exist.
    """
    path = fetch(patch, name, revision)
    if path is None:
        raise InputError(f"'{patch}' is not a patch: it has no {name}.")
    return path


def _checked(config: PatchConfig) -> PatchConfig:
    """Check the types of the values, and convert the alpha to its canonical form and the list of tasks to a tuple."""
    texts = (config.base_model_id or "", config.base_revision or "", config.base_fingerprint, *config.patching_tasks)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("ids, revisions, fingerprints and tasks must be strings")
    if config.alpha is not None and not isinstance(config.alpha, int | float):
        raise TypeError(f"alpha must be a number or null, got {config.alpha!r}")
    if config.dtype not in get_args(PatchDtype):
        raise ValueError(f"the dtype must be one of {', '.join(get_args(PatchDtype))}, got {config.dtype!r}")
    alpha = None if config.alpha is None else canonical_alpha(config.alpha)
    return replace(config, alpha=alpha, patching_tasks=tuple(config.patching_tasks))
