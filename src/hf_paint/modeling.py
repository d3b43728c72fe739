"""CLIP models as patching sees them: a base that is read safely, and its image tower."""

from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, CLIPModel, CLIPProcessor, CLIPVisionConfig, CLIPVisionModelWithProjection
from transformers.utils import logging

from hf_paint.errors import InputError


IMAGE_TOWER = ("vision_model.", "visual_projection.")
"""Prefixes of the tensors that patching changes; everything else stays as it is."""


def load_clip(name_or_path: str, *, revision: str = "main") -> tuple[CLIPModel, CLIPProcessor, torch.dtype]:
    """Load a CLIP model from the Hub or a folder, in float32, with its processor.

    Only safetensors are read and no code of the repository is run.

    Args:
        name_or_path: An id on the Hub or a folder.
        revision: A branch, tag or commit on the Hub.

    Returns:
        The model in float32 and evaluation mode, its processor, and the dtype in which the weights are stored.

    Raises:
        InputError: If it is not a complete CLIP model with safetensors and a processor.
    """
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    except (OSError, ValueError) as error:
        raise InputError(f"No model can be read from '{name_or_path}': {_first_line(error)}") from error
    if config.model_type != "clip":
        raise InputError(
            f"'{name_or_path}' is a {config.model_type} model; patching needs a CLIP model with both towers."
        )
    model = _load_weights(name_or_path, revision)
    try:
        processor = CLIPProcessor.from_pretrained(name_or_path, revision=revision)
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"'{name_or_path}' has no CLIP processor: {_first_line(error)}") from error
    dtype = config.dtype if isinstance(config.dtype, torch.dtype) else torch.float32
    return model, processor, dtype


def image_tower(model: CLIPModel) -> CLIPVisionModelWithProjection:
    """Return the image tower of a CLIP model as a model of its own that shares the parameters.

    Training the tower trains the CLIP model, and the names of its tensors are those of the CLIP model. Its config is a
    copy, so that nothing done to the tower shows in the config of the CLIP model.

    Example:
        >>> tower = image_tower(model)
        >>> tower.visual_projection.weight is model.visual_projection.weight
        True
    """
    config = cast(CLIPVisionConfig, deepcopy(model.config.vision_config))
    config.projection_dim = cast(int, model.config.projection_dim)
    with torch.device("meta"):
        tower = CLIPVisionModelWithProjection(config)
    tower.vision_model = model.vision_model
    tower.visual_projection = model.visual_projection
    tower.train(model.training)
    return tower


def image_tower_weights(model: CLIPModel | CLIPVisionModelWithProjection) -> dict[str, Tensor]:
    """Return the tensors of the image tower by their names in the CLIP model, sharing storage with the model."""
    return {name: tensor for name, tensor in model.state_dict().items() if name.startswith(IMAGE_TOWER)}


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


def _load_weights(name_or_path: str, revision: str) -> CLIPModel:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        model, loading = cast(
            tuple[CLIPModel, dict[str, Any]],
            CLIPModel.from_pretrained(
                name_or_path,
                revision=revision,
                dtype=torch.float32,
                use_safetensors=True,
                output_loading_info=True,
            ),
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(_loading_problem(name_or_path, error)) from error
    finally:
        logging.set_verbosity(verbosity)
    if loading["missing_keys"]:
        missing = sorted(loading["missing_keys"])
        raise InputError(f"The weights in '{name_or_path}' lack {len(missing)} tensors, first '{missing[0]}'.")
    model.eval()
    return model


def _loading_problem(name_or_path: str, error: Exception) -> str:
    if (Path(name_or_path) / "pytorch_model.bin").exists() or ("safetensors" in str(error) and "bin" in str(error)):
        return (
            f"'{name_or_path}' has no safetensors, and hf_paint reads nothing else. Convert it once: "
            f"CLIPModel.from_pretrained('{name_or_path}', use_safetensors=False).save_pretrained('converted') in "
            "Python, then copy the tokenizer and processor files beside it."
        )
    return f"The weights of '{name_or_path}' cannot be read: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
