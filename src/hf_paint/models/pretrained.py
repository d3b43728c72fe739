"""Load models, processors and tokenizers of transformers without running any code of a repository."""

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import transformers

from hf_paint.errors import InputError


IMPLEMENTATIONS = ("attn_implementation", "experts_implementation")
"""Config keys with which a repository can ask for a kernel from another one: compiled code, run as it is loaded."""
LARGEST = {"num_hidden_layers": 1000, "image_size": 10_000}
"""Largest sizes of a model, which is laid out before its weights are read."""
LARGEST_OTHER = 10**7
SIZES = ("size", "dim", "layers", "heads", "channels", "embeddings", "positions", "length", "depth", "width", "labels")
"""How the keys of sizes end; the numbers of others, such as a seed or a date, take no memory."""


def from_pretrained(class_name: str, name: str | Path | None, **options: object) -> Any:
    """Call `from_pretrained` of a class of transformers, which then neither runs foreign code nor asks whether to.

    Left to itself, transformers asks on standard input as soon as a repository names a class of its own.

    Args:
        class_name: Name of the class, e.g. `CLIPModel`.
        name: Hub repository id or folder.
        options: Further arguments.

    Example:
        >>> from_pretrained("AutoConfig", model_folder).model_type
        'clip'
    """
    return getattr(transformers, class_name).from_pretrained(name, trust_remote_code=False, **options)


def check_config(config: object, name: str | Path) -> None:
    """Check what transformers would believe: kernels from the Hub, which are code, and impossible sizes.

    Args:
        config: Contents of `config.json`.
        name: What to call the model in messages.

    Raises:
        InputError: If it asks for a kernel, or for a model of such a size.
    """
    for key, value in _items(config):
        if key.removeprefix("_").removesuffix("_internal") in IMPLEMENTATIONS and _is_on_hub(str(value)):
            raise InputError(
                f"'{name}' asks for the kernel '{value}' in its config.json (`{key}`), which is code from the Hub. "
                "hf_paint runs no code of a repository; remove the key from a copy of the model."
            )
        if type(value) is int and key.endswith(SIZES) and value > LARGEST.get(key, LARGEST_OTHER):
            raise InputError(f"The config.json of '{name}' is damaged: `{key}` is {value}.")


def _is_on_hub(kernel: str) -> bool:
    """Return whether transformers would load a kernel from the Hub, as it does without the package `flash_attn`."""
    return "/" in kernel or ("flash" in kernel and find_spec("flash_attn") is None)


def _items(config: object) -> Iterator[tuple[str, object]]:
    """Yield the keys and values of a config and of the configs in it."""
    if isinstance(config, dict):
        for key, value in config.items():
            yield str(key), value
            yield from _items(value)
