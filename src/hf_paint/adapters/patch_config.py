"""The files of a patch, in a folder or a repository on the Hub, and its config. No torch."""

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal, get_args

from hf_paint.errors import InputError
from hf_paint.repositories import fetch


PATCH_CONFIG = "patch_config.json"
PATCH_WEIGHTS = "patch.safetensors"
FORMAT_VERSION = 1

PatchDtype = Literal["float32", "bfloat16"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PatchConfig:
    """The config of a patch.

    Attributes:
        base_fingerprint: The fingerprint of the image tower of its base, in float32.
        base_model_id: The id of the base on the Hub, if it has one.
        base_revision: The branch or commit of the base.
        alpha: The chosen alpha, the default when the patch is applied.
        dtype: The dtype of the differences.
        patching_tasks: The names of the patching tasks.
        format_version: The version of the format.
    """

    base_fingerprint: str
    base_model_id: str | None = None
    base_revision: str | None = None
    alpha: float | None = None
    dtype: PatchDtype = "float32"
    patching_tasks: tuple[str, ...] = ()
    format_version: int = FORMAT_VERSION

    @property
    def base(self) -> str:
        """The base in words, for messages."""
        name = self.base_model_id or "a model without an id on the Hub"
        at = f" at revision {self.base_revision}" if self.base_revision else ""
        return f"{name}{at} (image tower {self.base_fingerprint})"

    def to_json(self) -> str:
        """Return the config as the text of its file."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_patch_config(patch: str | Path, revision: str = "main") -> PatchConfig:
    """Read the config of a patch.

    Args:
        patch: A folder or an id on the Hub.
        revision: A branch, tag or commit on the Hub.

    Raises:
        InputError: If this is not a patch, cannot be read, or has an unknown format version.

    Example:
        >>> read_patch_config(patch_folder).alpha
        0.5
    """
    path = patch_file(patch, PATCH_CONFIG, revision)
    try:
        values = json.loads(path.read_bytes())
        version = values["format_version"]
        if version == FORMAT_VERSION:
            return _checked(PatchConfig(**{field.name: values[field.name] for field in fields(PatchConfig)}))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The {PATCH_CONFIG} of '{patch}' is damaged: {type(error).__name__}: {error}.") from error
    raise InputError(
        f"'{patch}' is a patch of format version {version}, but this hf_paint reads {FORMAT_VERSION}. Update hf_paint."
    )


def patch_file(patch: str | Path, name: str, revision: str) -> Path:
    """Return a file of a patch, downloaded if the patch is on the Hub.

    Raises:
        InputError: If there is no such patch, or it has no such file.
    """
    path = fetch(patch, name, revision)
    if path is None:
        raise InputError(f"'{patch}' is not a patch: it has no {name}.")
    return path


def _checked(config: PatchConfig) -> PatchConfig:
    """Check the types of the values, and return the config with its list as a tuple."""
    texts = (config.base_model_id or "", config.base_revision or "", config.base_fingerprint, *config.patching_tasks)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError("ids, revisions, fingerprints and tasks must be strings")
    if config.alpha is not None and not isinstance(config.alpha, int | float):
        raise TypeError(f"alpha must be a number or null, got {config.alpha!r}")
    if config.dtype not in get_args(PatchDtype):
        raise ValueError(f"the dtype must be one of {', '.join(get_args(PatchDtype))}, got {config.dtype!r}")
    return replace(config, patching_tasks=tuple(config.patching_tasks))
