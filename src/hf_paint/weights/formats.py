"""Formats that hf_paint does not read as models: single weight files, adapters, and models of other libraries."""

from pathlib import Path

from hf_paint.errors import InputError
from hf_paint.files import exists, expand


OPEN_CLIP_CONFIG = "open_clip_config.json"
OTHER_FORMATS = {
    OPEN_CLIP_CONFIG: "an open_clip model. Convert it once: hf-paint convert {} OUTPUT",
    "adapter_config.json": "a peft adapter. Merge it into its base: hf-paint interpolate BASE --adapter {} --alphas 1 "
    "--output_dir OUTPUT",
}
"""Config file of another format -> what the format is called, and how to convert it."""
WEIGHT_FILES = (".pt", ".pth", ".bin", ".ckpt", ".safetensors", ".npz", ".onnx", ".gguf")
"""Suffixes of files with the weights of a whole model."""


def check_model(name_or_path: str | Path, revision: str = "main") -> None:
    """Check that a name belongs to a model in a folder or on the Hub, before anything large is read.

    Args:
        name_or_path: Folder, Hub repository id, or `id@revision`.
        revision: Branch, tag or commit on the Hub.

    Raises:
        InputError: If it is a single file, an adapter or a model of another library; the message says how to convert
            it.
    """
    from hf_paint.repositories import fetch  # the Hub client, which interpolation of folders does without

    check_not_a_file(name_or_path)
    if not fetch(name_or_path, "config.json", revision, optional=True):
        refuse_other_format(name_or_path, revision)


def check_not_a_file(name_or_path: str | Path) -> None:
    """Check that a name is not that of a single weight file.

    Raises:
        InputError: If it is.
    """
    path = expand(name_or_path)
    is_file = path.is_file() if exists(path) else path.suffix.lower() in WEIGHT_FILES
    if is_file:
        raise InputError(
            f"'{name_or_path}' is a single file, but a model is a folder or a Hub repository id. To convert an "
            f"open_clip checkpoint, copy it to FOLDER/open_clip_pytorch_model.bin, beside the {OPEN_CLIP_CONFIG} of "
            "its architecture, and run: hf-paint convert FOLDER OUTPUT"
        )


def refuse_other_format(name_or_path: str | Path, revision: str = "main") -> None:
    """Raise an error if a folder or repository has the config of another format."""
    from hf_paint.repositories import fetch

    for file, advice in OTHER_FORMATS.items():
        if fetch(name_or_path, file, revision, optional=True):
            raise InputError(f"'{name_or_path}' is {advice.format(name_or_path)}")
