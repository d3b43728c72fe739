"""Model folders: copy the files next to the weights, and check folders before writing a model."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError
from hf_paint.weights.manifest import MANIFEST


HEAD_CONFIG = "head.json"
TASKS = "tasks.json"
"""Classes and prompts of the tasks that a model was patched on."""
COMPANIONS = (
    HEAD_CONFIG,
    *("config.json", "generation_config.json", "*processor_config.json", "chat_template.*"),
    *("tokenizer*", "*tokens*.json", "vocab.*", "merges.txt", "*.model"),
)
"""Files to copy along with the weights. The model card and training state describe the original and are left out."""

WEIGHTS_AND_HEAD = ("model*.safetensors*", "head.*", TASKS, MANIFEST)
"""Files to remove when a model is replaced: the new model may have fewer of them, and has other checksums."""

SIGNS_OF_A_MODEL = ("config.json", "*.safetensors", "*.safetensors.index.json", "pytorch_model*")


def classes_of_head(path: Path) -> list[str] | None:
    """Return the class names in the config of a trained head, or None if there is no such file.

    Raises:
        InputError: If the file is damaged.
    """
    config = read_json(path)
    if config is None:
        return None
    names = config.get("class_names")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} is damaged: `class_names` is no list of names.")
    return names


def check_free(outputs: Sequence[Path], inputs: Sequence[str | Path], *, overwrite: bool) -> None:
    """Check that output folders are distinct, are not inputs and, unless `overwrite` is set, contain no model.

    Raises:
        InputError: If a folder cannot be used for output.
    """
    used = {Path(folder).resolve() for folder in inputs}
    for folder in outputs:
        if folder.resolve() in used:
            raise InputError(f"The output folder {folder} is used twice, as another output or as an input.")
        used.add(folder.resolve())
        if folder.exists() and not folder.is_dir():
            raise InputError(f"The output folder {folder} is a file. Choose another folder.")
        if not overwrite and any(next(folder.glob(sign), None) for sign in SIGNS_OF_A_MODEL):
            raise InputError(f"{folder} already contains a model. Choose another folder, or set `overwrite`.")


def copy_companions(folder: Path, partial: Callable[[str], Path], save_dtype: str | None) -> None:
    """Copy all files of a model except its weights. If `save_dtype` is given, it replaces the dtype in the config."""
    for path in sorted({path for pattern in COMPANIONS for path in folder.glob(pattern) if path.is_file()}):
        if path.name == "config.json" and save_dtype:
            config = _with_dtype(read_json(own_file(path)) or {}, save_dtype)
            partial(path.name).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(own_file(path), partial(path.name))


def _with_dtype(config: dict[str, object], save_dtype: str) -> dict[str, object]:
    """Return a config in which every dtype, including those of the towers, is replaced."""
    changed = {key: save_dtype for key in ("dtype", "torch_dtype") if config.get(key)}
    towers = {key: _with_dtype(value, save_dtype) for key, value in config.items() if isinstance(value, dict)}
    return config | towers | changed


def copy_files(folder: Path, target: Path, *, without: Sequence[str] = ()) -> None:
    """Copy the files in a folder, except those that match a glob pattern, to a new folder (see `own_file`)."""
    target.mkdir(parents=True)
    for path in sorted(folder.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in without):
            shutil.copyfile(own_file(path), target / path.name)


def own_file(path: Path) -> Path:
    """Return the path to a file that is to be copied from a folder, unless it is a link to a file elsewhere.

    The folder may come from anyone, what is copied is often published, and a link may lead to any file of this
    machine. The files of a snapshot in the Hub cache are links, too, but only to the blobs of the cache.

    Raises:
        InputError: If the file is such a link.

    Example:
        >>> _ = (tmp_path / "vocab.json").write_text("{}")
        >>> own_file(tmp_path / "vocab.json").name
        'vocab.json'
        >>> (tmp_path / "tokens.json").symlink_to("/etc/hosts")
        >>> own_file(tmp_path / "tokens.json")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        hf_paint.errors.InputError: .../tokens.json is a link to a file outside its folder. ...
    """
    folder = path.parent.resolve()
    places = [folder]
    if folder.parent.name == "snapshots":
        places += [folder.parents[level] / "blobs" for level in (1, 2)]  # of the repository, and of the whole cache
    if not any(path.resolve().is_relative_to(place) for place in places):
        raise InputError(f"{path} is a link to a file outside its folder. Replace it by the file itself.")
    return path
