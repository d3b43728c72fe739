"""CLIP models as patching sees them: a base that is read safely, and its image tower."""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, TypeVar, cast

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import (
    AutoConfig,
    CLIPModel,
    CLIPProcessor,
    CLIPTextConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
)
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, logging
from transformers.utils.hub import cached_file

from hf_paint.errors import InputError


Tower = TypeVar("Tower", bound=CLIPVisionModelWithProjection)
IMAGE_TOWER = ("vision_model.", "visual_projection.")
"""Prefixes of the tensors that patching changes; everything else stays as it is."""


def load_clip(name_or_path: str, *, revision: str = "main") -> tuple[CLIPModel, CLIPProcessor, torch.dtype]:
    """Load a CLIP model from the Hub or a folder, in float32, with its processor.

    Only safetensors are read and no code of the repository is run.

    Args:
        name_or_path: An id on the Hub or a folder.
        revision: A branch, tag or commit on the Hub.

    Returns:
        The model in float32 and evaluation mode, its processor, and the dtype in which the image tower is stored.

    Raises:
        InputError: If it is not a complete CLIP model with safetensors, tokenizer and image processor.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    except Exception as error:  # a config can be wrong in as many ways as it has keys
        raise InputError(f"No model can be read from '{name_or_path}': {_one_line(error)}") from error
    if config.model_type != "clip":
        raise InputError(
            f"'{name_or_path}' is a {config.model_type} model; patching needs a CLIP model with both towers."
        )
    weights = _find_safetensors(name_or_path, revision)
    model = _load_weights(name_or_path, revision)
    try:
        processor = CLIPProcessor.from_pretrained(name_or_path, revision=revision)
    except Exception as error:  # the tokenizer and the image processor have many ways to be missing
        raise InputError(f"'{name_or_path}' has no CLIP processor: {_one_line(error)}") from error
    _check_processor(name_or_path, model, processor)
    return model, processor, _stored_dtype(weights) or config.dtype or torch.float32


def image_tower(
    model: CLIPModel,
    kind: type[Tower] = CLIPVisionModelWithProjection,  # type: ignore[assignment]
) -> Tower:
    """Return the image tower of a CLIP model as a model of its own that shares the parameters.

    Training the tower trains the CLIP model, and the names of its tensors are those of the CLIP model. Its config is a
    copy, so that nothing done to the tower shows in the config of the CLIP model.

    Args:
        model: The CLIP model.
        kind: The class of the tower.

    Example:
        >>> tower = image_tower(model)
        >>> tower.visual_projection.weight is model.visual_projection.weight
        True
    """
    config = cast(CLIPVisionConfig, deepcopy(model.config.vision_config))
    config.projection_dim = cast(int, model.config.projection_dim)
    with torch.device("meta"):
        tower = kind(config)
    tower.vision_model = model.vision_model
    tower.visual_projection = model.visual_projection
    tower.train(model.training)
    return tower


def image_tower_weights(model: CLIPModel | CLIPVisionModelWithProjection) -> dict[str, Tensor]:
    """Return the tensors of the image tower by their names in the CLIP model, sharing storage with the model."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(IMAGE_TOWER)}


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Let a model use another implementation of attention, such as `eager` or `sdpa`, inside a `with` block.

    Example:
        >>> with attention(model, "eager"):
        ...     model.vision_model.config._attn_implementation
        'eager'
        >>> model.vision_model.config._attn_implementation
        'sdpa'
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def save_clip(model: CLIPModel, processor: CLIPProcessor, folder: str | Path, **options: Any) -> None:
    """Save a complete CLIP repository: both towers, config, tokenizer and processor.

    The image processor is also written to a file of its own, which is where transformers 4 looks for it.

    Args:
        model: The model.
        processor: Its processor.
        folder: Where to.
        options: Passed on to `save_pretrained` of the model.
    """
    model.save_pretrained(folder, **options)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)


def _find_safetensors(name_or_path: str, revision: str) -> str:
    """Return the file of the weights, or of their index."""
    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        found = cached_file(name_or_path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        if found is not None:
            return str(found)
    raise InputError(
        f"'{name_or_path}' has no safetensors, and hf_paint reads nothing else. Convert it once: "
        f"CLIPModel.from_pretrained('{name_or_path}', use_safetensors=False).save_pretrained('converted') in Python, "
        "then copy the tokenizer and processor files beside it."
    )


def _load_weights(name_or_path: str, revision: str) -> CLIPModel:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    options: dict[str, Any] = {"revision": revision, "dtype": torch.float32, "use_safetensors": True}
    try:
        loaded = CLIPModel.from_pretrained(name_or_path, output_loading_info=True, **options)
    except Exception as error:  # torn files, other shapes, other architectures: each library has its own type
        raise InputError(f"The weights of '{name_or_path}' cannot be read: {_one_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    model, loading = cast(tuple[CLIPModel, dict[str, Any]], loaded)
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise InputError(f"The weights in '{name_or_path}' lack {len(missing)} tensors, first '{missing[0]}'.")
    model.eval()
    return model


def _check_processor(name_or_path: str, model: CLIPModel, processor: CLIPProcessor) -> None:
    """Refuse a tokenizer that is not the model's (one with an empty vocabulary is what missing files become)."""
    ids = processor.tokenizer("a photo").input_ids
    vocab_size = cast(CLIPTextConfig, model.config.text_config).vocab_size
    if len(ids) < 3 or processor.tokenizer.unk_token_id in ids[1:-1] or max(ids) >= vocab_size:
        raise InputError(
            f"The tokenizer in '{name_or_path}' cannot spell 'a photo': files are missing, or not its own."
        )
    image_size = cast(CLIPVisionConfig, model.config.vision_config).image_size
    crop = processor.image_processor.crop_size["height"]
    if crop != image_size:
        raise InputError(f"The processor in '{name_or_path}' makes {crop} pixels, but the model takes {image_size}.")


def _stored_dtype(weights: str) -> torch.dtype | None:
    """Return the dtype in the header of a safetensors file; None for an index of several files."""
    if not weights.endswith(SAFE_WEIGHTS_NAME):
        return None
    with safe_open(weights, framework="pt") as file:
        stored = file.get_slice("visual_projection.weight").get_dtype()
    return {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}.get(stored)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
