"""The folder of a model: the files next to the weights, and the checks before a model is written."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hf_paint.errors import InputError


HEAD_CONFIG = "head.json"
COMPANIONS = (
    HEAD_CONFIG,
    *("config.json", "generation_config.json", "*processor_config.json", "chat_template.*"),
    *("tokenizer*", "*tokens*.json", "vocab.*", "merges.txt", "*.model"),
)
"""The files of a model besides its weights, without its card and training state, which describe only one model."""

WEIGHTS_AND_HEAD = ("model*.safetensors*", "head.*")
"""The files that are removed when a model is replaced: the new one may have fewer of them."""

SIGNS_OF_A_MODEL = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*")


def check_free(outputs: Sequence[Path], inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    """Check that output folders are distinct, are not inputs and, without `overwrite`, contain no model.

    Raises:
        InputError: If a folder cannot be written.
    """
    used = {Path(folder).resolve() for folder in inputs}
    for folder in outputs:
        if folder.resolve() in used:
            raise InputError(f"The output folder {folder} is also an input, or another output.")
        used.add(folder.resolve())
        if folder.exists() and not folder.is_dir():
            raise InputError(f"The output folder {folder} is a file.")
        if not overwrite and any(next(folder.glob(sign), None) for sign in SIGNS_OF_A_MODEL):
            raise InputError(f"{folder} already has a model. Choose another folder, or overwrite it.")


def copy_companions(folder: Path, partial: Callable[[str], Path], save_dtype: str | None) -> None:
    """Copy the files of a model besides its weights, with `save_dtype` in the config if it is given."""
    for path in sorted({path for pattern in COMPANIONS for path in folder.glob(pattern) if path.is_file()}):
        if path.name == "config.json" and save_dtype:
            config = _with_dtype(json.loads(path.read_bytes()), save_dtype)
            partial(path.name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(path, partial(path.name))


def _with_dtype(config: dict[str, object], save_dtype: str) -> dict[str, object]:
    """Return a config with another dtype for the model and its towers, wherever it has one."""
    changed = {key: save_dtype for key in ("dtype", "torch_dtype") if config.get(key)}
    towers = {key: _with_dtype(value, save_dtype) for key, value in config.items() if isinstance(value, dict)}
    return config | towers | changed
