"""Load and save complete models: weights (safetensors only), processor and tokenizer, with checks."""

from pathlib import Path

import torch
import transformers
from safetensors import safe_open
from torch import Tensor
from transformers import AutoConfig, PreTrainedModel, ProcessorMixin
from transformers.utils import logging

from hf_paint.data.transforms import PixelTransform
from hf_paint.errors import InputError, one_line
from hf_paint.files import expand
from hf_paint.models.families import Family, find_family
from hf_paint.repositories import fetch, split_revision
from hf_paint.weights.formats import check_not_a_file, refuse_other_format
from hf_paint.weights.headers import INDEX, SINGLE
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import check_whole


def load_clip(
    name_or_path: str | Path, *, revision: str = "main"
) -> tuple[PreTrainedModel, ProcessorMixin, torch.dtype]:
    """Load a CLIP model, or one from another supported family, with its processor.

    Only safetensors files are read, and no code from the repository is executed.

    Args:
        name_or_path: Hub repository id, `id@revision` or folder.
        revision: Branch, tag or commit on the Hub.

    Returns:
        The model in float32 and evaluation mode, its processor, and the dtype of the image tower on disk.

    Raises:
        InputError: If the model does not belong to a supported family, or its safetensors, tokenizer or image
            processor is missing.
    """
    name_or_path = model_name(name_or_path)
    check_not_a_file(name_or_path)
    if Path(name_or_path).is_dir():
        check_whole(Path(name_or_path))
    else:
        name_or_path, revision = split_revision(name_or_path, revision)
    fetch(name_or_path, "config.json", revision)  # says in one line what is wrong with a name, after one request
    try:
        config = AutoConfig.from_pretrained(name_or_path, revision=revision)
    except Exception as error:  # a bad config can raise many types of errors
        refuse_other_format(name_or_path, revision)
        raise InputError(f"No model can be loaded from '{name_or_path}': {one_line(error)}") from error
    family = find_family(config, name_or_path)
    weights = _find_safetensors(name_or_path, revision)
    model = _load_weights(name_or_path, revision, family)
    processor = _load_processor(name_or_path, revision, model, family)
    return model, processor, _stored_dtype(weights) or config.dtype or torch.float32


def model_name(name_or_path: str | Path) -> str:
    """Return the name of a model as text, where `~` stands for the home folder.

    Raises:
        InputError: If it is neither text nor a path.
    """
    if not isinstance(name_or_path, (str, Path)):
        raise InputError(
            "A model is a Hub repository id, a folder, or a CLIP model of transformers; got an object of "
            f"type {type(name_or_path).__name__}."
        )
    return str(expand(name_or_path)) if str(name_or_path).startswith("~") else str(name_or_path)


def save_clip(
    model: PreTrainedModel,
    processor: ProcessorMixin,
    folder: str | Path,
    *,
    state_dict: dict[str, Tensor] | None = None,
) -> None:
    """Save a complete repository: both towers, config, tokenizer and processor.

    The image processor is also written to its own file, where transformers 4 looks for it.

    Args:
        model: Model to save.
        processor: Processor of the model.
        folder: Output folder.
        state_dict: Weights to save instead of the model's own.
    """
    model.save_pretrained(folder, state_dict=state_dict)
    processor.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)


def _find_safetensors(name_or_path: str, revision: str) -> Path:
    """Return the path to the safetensors file, or to the index of several files."""
    for name in (SINGLE, INDEX):
        if path := fetch(name_or_path, name, revision, optional=True):
            return path
    raise InputError(
        f"'{name_or_path}' has no safetensors, the only format that hf_paint reads. Convert it once: "
        f"AutoModel.from_pretrained('{name_or_path}', use_safetensors=False).save_pretrained('converted') in Python, "
        "then copy the tokenizer and processor files into the same folder."
    )


def _load_weights(name_or_path: str, revision: str, family: Family) -> PreTrainedModel:
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()
    model: PreTrainedModel
    try:
        model, loading = getattr(transformers, family.model).from_pretrained(
            name_or_path,
            revision=revision,
            dtype=torch.float32,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:  # libraries raise different types of errors for damaged files and wrong shapes
        raise InputError(f"The weights of '{name_or_path}' cannot be loaded: {one_line(error)}") from error
    finally:
        logging.set_verbosity(verbosity)
    if missing := sorted(loading["missing_keys"]):
        raise InputError(f"'{name_or_path}' is incomplete: it lacks {len(missing)} tensors, first '{missing[0]}'.")
    model.eval()
    return model


def processor_of(model: PreTrainedModel) -> ProcessorMixin:
    """Load the processor of a model in memory from where the model is from, at the same commit.

    Raises:
        InputError: If the model was made in memory, or its processor cannot be loaded.
    """
    name = model.name_or_path
    if not name:
        raise InputError(
            f"A {type(model).__name__} that was made in memory needs a processor: nothing says where its own is. Pass "
            "its processor too."
        )
    revision = getattr(model.config, "_commit_hash", None) or "main"
    return _load_processor(name, revision, model, find_family(model.config, name))


def _load_processor(name_or_path: str, revision: str, model: PreTrainedModel, family: Family) -> ProcessorMixin:
    processor: ProcessorMixin
    try:
        processor = getattr(transformers, family.processor).from_pretrained(name_or_path, revision=revision)
    except Exception as error:  # missing files raise many types of errors
        raise InputError(f"'{name_or_path}' has no {family.processor}: {one_line(error)}") from error
    _check_processor(name_or_path, model, processor)
    return processor


def _check_processor(name_or_path: str, model: PreTrainedModel, processor: ProcessorMixin) -> None:
    """Check that tokenizer and image processor fit the model; if files are missing, the vocabulary is empty."""
    ids = processor.tokenizer("a photo").input_ids
    vocab_size = model.config.text_config.vocab_size
    if len(ids) < 3 or processor.tokenizer.unk_token_id in ids[1:-1] or max(ids) >= vocab_size:
        raise InputError(
            f"The tokenizer in '{name_or_path}' cannot encode 'a photo'. Its files are missing, or belong to another "
            "model."
        )
    crop_size, vision = PixelTransform(processor).crop_size, model.config.vision_config
    if hasattr(vision, "patch_size") and crop_size != vision.image_size:  # convolutions take any size
        raise InputError(
            f"The processor in '{name_or_path}' crops images to {crop_size} pixels, but the model expects "
            f"{vision.image_size}."
        )


def _stored_dtype(weights: Path) -> torch.dtype | None:
    """Return the dtype of the image tower in a safetensors file, or None if the weights are sharded."""
    if weights.name != SINGLE:
        return None
    with safe_open(weights, framework="pt") as file:
        slices = [file.get_slice(name) for name in file.keys() if name.startswith(IMAGE_TOWER)]  # noqa: SIM118
    dtypes = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}
    return next((dtypes[stored] for part in reversed(slices) if (stored := part.get_dtype()) in dtypes), None)
