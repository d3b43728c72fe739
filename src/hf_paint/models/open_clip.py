"""Convert open_clip models to CLIP repositories, which transformers can load and hf_paint can patch."""

import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import TypedDict

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    PreTrainedConfig,
)

from hf_paint.data.transforms import PixelTransform
from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError, one_line
from hf_paint.files import remove_files
from hf_paint.models.loading import load_clip, save_clip
from hf_paint.models.open_clip_format import (
    MODEL_KEYS,
    Config,
    check_weights,
    clip_config,
    clip_weights,
    image_settings,
    plain_weights,
)
from hf_paint.models.pretrained import from_pretrained
from hf_paint.models.towers import move
from hf_paint.repositories import fetch
from hf_paint.weights.folders import WEIGHTS_AND_HEAD, check_free
from hf_paint.weights.formats import OPEN_CLIP_CONFIG, check_not_a_file


WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PARTS = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
TOLERANCE = 1e-5
"""Maximum difference allowed between unit embeddings; the two models sum numbers in different orders."""


class OpenClipConfig(TypedDict, total=False):
    """Contents of `open_clip_config.json`."""

    model_cfg: Config
    preprocess_cfg: Config | None


@dataclass(frozen=True, slots=True)
class Conversion:
    """Result of `convert_open_clip`.

    Attributes:
        folder: Folder of the converted model.
        num_tensors: Number of tensors written.
        dtype: Dtype of the tensors on disk.
        difference: Largest difference between unit embeddings of the original and the converted model; None if they
            were not compared because open_clip is not installed.
    """

    folder: Path
    num_tensors: int
    dtype: str
    difference: float | None


def convert_open_clip(
    source: str | Path,
    output: str | Path,
    *,
    tokenizer: str | Path | None = None,
    revision: str = "main",
    overwrite: bool = False,
) -> Conversion:
    """Convert an open_clip model with OpenAI's architecture to a CLIP repository, including processor and tokenizer.

    The values and dtype of the weights do not change; if there are several dtypes, all weights get the widest one. If
    open_clip is installed, the embeddings of both models are compared.

    There are two remaining differences. If the longer side of a resized image exceeds the crop by an odd number of
    pixels, the centre crop may be shifted by one pixel. And open_clip's tokenizer cleans up texts (`ftfy`, HTML),
    which is not necessary for class names and prompts.

    Args:
        source: Hub repository id or folder that contains `open_clip_config.json`.
        output: Output folder.
        tokenizer: Hub repository id or folder of a CLIP tokenizer; defaults to `source`.
        revision: Branch, tag or commit of `source` on the Hub.
        overwrite: Whether to replace an existing model in `output`.

    Returns:
        What was written, and how far the two models differ if they were compared.

    Raises:
        InputError: If `source` is not an open_clip model, or has a feature that `CLIPModel` does not support; the
            message names the feature.

    Example:
        >>> convert_open_clip("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "clip").dtype  # doctest: +SKIP
        'float32'
    """
    source, output = str(source), Path(output)
    check_free([output], [source], overwrite=overwrite)
    open_clip_config = _read_config(source, revision)
    model_config = open_clip_config["model_cfg"]
    config = _clip_config(source, model_config)
    weights = plain_weights(_read_weights(source, revision))
    converted = clip_weights(weights)
    with torch.device("meta"):
        check_weights(CLIPModel(config).state_dict(), converted)
    processor = _make_processor(tokenizer or source, config, open_clip_config.get("preprocess_cfg") or {})
    dtype = reduce(torch.promote_types, {tensor.dtype for tensor in weights.values()})
    model: CLIPModel = from_pretrained("CLIPModel", None, config=config, state_dict=converted, dtype=dtype)
    difference = _compare(model, processor, model_config, weights)
    remove_files(output, WEIGHTS_AND_HEAD)
    save_clip(model, processor, output)
    load_clip(str(output))
    return Conversion(output, len(converted), str(dtype).removeprefix("torch."), difference)


def _read_config(source: str, revision: str) -> OpenClipConfig:
    check_not_a_file(source)
    path = fetch(source, OPEN_CLIP_CONFIG, revision)
    if path is None:
        raise InputError(
            f"'{source}' is not an open_clip model: it has no {OPEN_CLIP_CONFIG}. If it is a CLIPModel, it needs no "
            "conversion."
        )
    config = read_json(path) or {}
    model, preprocess = config.get("model_cfg"), config.get("preprocess_cfg") or {}
    if not isinstance(model, dict) or not all(isinstance(model.get(key), kind) for key, kind in _PARTS.items()):
        raise InputError(
            f"The {OPEN_CLIP_CONFIG} of '{source}' must contain a `model_cfg` with embed_dim, vision_cfg and text_cfg."
        )
    if not isinstance(preprocess, dict):
        raise InputError(f"The `preprocess_cfg` in the {OPEN_CLIP_CONFIG} of '{source}' must be a JSON object.")
    return OpenClipConfig(model_cfg=model, preprocess_cfg=preprocess)


def _clip_config(source: str, config: Config) -> CLIPConfig:
    values = clip_config(config)
    try:
        return CLIPConfig(**values)
    except Exception as error:  # sizes that do not fit together raise many types of errors
        raise InputError(f"The {OPEN_CLIP_CONFIG} of '{source}' describes no CLIP model: {one_line(error)}") from error


def _read_weights(source: str, revision: str) -> dict[str, Tensor]:
    path = next(filter(None, (fetch(source, name, revision, optional=True) for name in WEIGHTS)), None)
    if path is None:
        raise InputError(f"'{source}' has no open_clip weights; it needs {' or '.join(WEIGHTS)}.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)  # runs no code
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(
            f"{path} is damaged or not a plain state dict of tensors: {one_line(error, limit=200)}"
        ) from error
    # A training checkpoint also contains the optimizer state.
    weights = checkpoint.get("state_dict", checkpoint) if isinstance(checkpoint, dict) else None
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InputError(f"{path} is not a plain state dict of tensors.")
    return weights


def _make_processor(name: str | Path, config: PreTrainedConfig, preprocess: Config) -> CLIPProcessor:
    """Build the model's processor, after checking that the tokenizer has the right vocabulary."""
    text, image_size = config.text_config, config.vision_config.image_size
    try:
        tokenizer = from_pretrained("CLIPTokenizer", name)
        is_right = (len(tokenizer), tokenizer.eos_token_id) == (text.vocab_size, text.eos_token_id)
    except Exception:  # missing files raise many types of errors
        is_right = False
    if not is_right:
        raise InputError(
            f"'{name}' has no CLIP tokenizer with {text.vocab_size} tokens, the last of which must end the text. Name "
            "a model that has one, for instance --tokenizer openai/clip-vit-base-patch32"
        )
    tokenizer.model_max_length = text.max_position_embeddings
    image_processor = CLIPImageProcessorPil(**image_settings(preprocess, image_size))
    return CLIPProcessor(image_processor=image_processor, tokenizer=tokenizer)


@torch.no_grad()
def _compare(
    model: CLIPModel, processor: CLIPProcessor, config: Config, weights: Mapping[str, Tensor]
) -> float | None:
    """Return the largest difference between float32 embeddings of the two models, each with its own tokenizer.

    Raises:
        InputError: If the difference is larger than rounding errors.
    """
    try:
        open_clip = import_module("open_clip")
    except (ImportError, RuntimeError):  # it imports torchvision, whose version may not match torch's
        return None
    reference = open_clip.CLIP(**{key: config[key] for key in MODEL_KEYS if key in config}).float().eval()
    reference.load_state_dict(weights)
    dtype, size, tokenizer = model.dtype, PixelTransform(processor).crop_size, processor.tokenizer
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of a cat.", "Two dogs, a COW and much more"]
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    model.float().eval()
    ours = [model.get_image_features(pixels).pooler_output, model.get_text_features(**tokens).pooler_output]
    move(model, dtype=dtype)
    their_tokens = open_clip.tokenize(texts, tokenizer.model_max_length)
    theirs = [reference.encode_image(pixels), reference.encode_text(their_tokens)]
    pairs = zip(ours, theirs, strict=True)
    difference = max(float((functional.normalize(a) - functional.normalize(b)).abs().max()) for a, b in pairs)
    if difference > TOLERANCE:
        raise InputError(f"The embeddings of the converted model differ from open_clip's by {difference:.1e}.")
    return difference
