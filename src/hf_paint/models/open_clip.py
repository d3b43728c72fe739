"""From the weights of open_clip to an ordinary CLIP repository, which transformers reads and `hf_paint` patches."""

import json
import pickle
from dataclasses import dataclass
from functools import reduce
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    CLIPVisionConfig,
)

from hf_paint.errors import InputError
from hf_paint.models.loading import OPEN_CLIP_CONFIG, load_clip, save_clip
from hf_paint.models.open_clip_format import (
    MODEL_KEYS,
    check_weights,
    clip_config,
    clip_weights,
    image_settings,
    plain_weights,
)
from hf_paint.repositories import fetch
from hf_paint.weights.folders import check_free, remove_weights


WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_PARTS = {"embed_dim": int, "vision_cfg": dict, "text_cfg": dict}
TOLERANCE = 1e-5
"""How far an embedding of unit length may be from open_clip's: the order of additions differs."""


@dataclass(frozen=True, slots=True)
class Conversion:
    """What `convert_open_clip` wrote.

    Attributes:
        folder: Where it is.
        num_tensors: How many tensors the model has.
        dtype: In which dtype they are stored.
        difference: The largest difference of an embedding of unit length from open_clip's; None if open_clip is not
            installed, and nothing was compared.
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
    """Convert an open_clip model with OpenAI's architecture to a CLIP repository, with processor and tokenizer.

    The weights are the same numbers, in the dtype in which they are stored: the widest, where open_clip kept some in
    float32. Where open_clip is installed, embeddings of both are compared. Its images differ in one thing: of an image
    that is an odd number of pixels too long, its crop may lie one pixel from that of transformers. Its tokenizer also
    mends texts (`ftfy`, HTML), which class names and prompts do not need.

    Args:
        source: An id on the Hub or a folder, with `open_clip_config.json`.
        output: The folder that is written.
        tokenizer: An id on the Hub or a folder with the tokenizer of CLIP; by default that of `source`.
        revision: A branch, tag or commit of `source` on the Hub.
        overwrite: Replace a model that is in `output`.

    Raises:
        InputError: If it is no such model, or one that `CLIPModel` cannot be; it says what is missing.

    Example:
        >>> convert_open_clip("laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "clip").dtype  # doctest: +SKIP
        'float32'
    """
    source, output = str(source), Path(output)
    check_free([output], [source], overwrite=overwrite)
    said = _read_config(source, revision)
    config = CLIPConfig(**clip_config(said["model_cfg"]))
    weights = plain_weights(_read_weights(source, revision))
    converted = clip_weights(weights)
    with torch.device("meta"):
        check_weights(CLIPModel(config).state_dict(), converted)
    processor = _make_processor(tokenizer or source, config, said.get("preprocess_cfg") or {})
    dtype = reduce(torch.promote_types, {tensor.dtype for tensor in weights.values()})
    model = CLIPModel.from_pretrained(None, config=config, state_dict=converted, dtype=dtype)
    difference = _compare(model, processor.tokenizer, said["model_cfg"], weights)
    remove_weights(output)
    save_clip(model, processor, output)
    load_clip(str(output))
    return Conversion(output, len(converted), str(dtype).removeprefix("torch."), difference)


def _read_config(source: str, revision: str) -> dict[str, Any]:
    path = fetch(source, OPEN_CLIP_CONFIG, revision)
    if path is None:
        raise InputError(
            f"'{source}' has no {OPEN_CLIP_CONFIG}, so it is no model of open_clip. A CLIPModel needs no conversion."
        )
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from error
    model = said.get("model_cfg") if isinstance(said, dict) else None
    if not isinstance(model, dict) or not all(isinstance(model.get(key), kind) for key, kind in _PARTS.items()):
        raise InputError(
            f"The {OPEN_CLIP_CONFIG} of '{source}' must hold a `model_cfg` with embed_dim, vision_cfg and text_cfg."
        )
    found: dict[str, Any] = said
    return found


def _read_weights(source: str, revision: str) -> dict[str, Tensor]:
    found = next(filter(None, (fetch(source, name, revision, optional=True) for name in WEIGHTS)), None)
    if found is None:
        raise InputError(f"'{source}' has no weights of open_clip: {' or '.join(WEIGHTS)}.")
    try:
        if found.suffix == ".safetensors":
            return load_file(found)
        loaded = torch.load(found, map_location="cpu", weights_only=True)  # runs no code
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise InputError(f"{found} is damaged, or holds more than tensors: {str(error)[:200]}") from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, dict) else None  # training saves more beside it
    if not isinstance(weights, dict) or not all(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise InputError(f"{found} holds more than tensors.")
    return weights


def _make_processor(tokenizer: str | Path, config: CLIPConfig, preprocess: dict[str, Any]) -> CLIPProcessor:
    """Return the processor of the model, with a tokenizer that is checked."""
    text: Any = config.text_config
    try:
        found = CLIPTokenizer.from_pretrained(tokenizer)
        fits = (len(found), found.eos_token_id) == (text.vocab_size, text.eos_token_id)
    except Exception:  # the files of a tokenizer have many ways to be missing
        fits = False
    if not fits:
        raise InputError(
            f"'{tokenizer}' has no CLIP tokenizer of {text.vocab_size} tokens, the last of which ends the texts. Name "
            "a model that has it: --tokenizer openai/clip-vit-base-patch32"
        )
    found.model_max_length = text.max_position_embeddings
    vision: Any = config.vision_config
    image_processor = CLIPImageProcessorPil(**image_settings(preprocess, vision.image_size))
    return CLIPProcessor(image_processor=image_processor, tokenizer=found)


@torch.no_grad()
def _compare(model: CLIPModel, tokenizer: Any, config: dict[str, Any], weights: dict[str, Tensor]) -> float | None:
    """Return the largest difference between the embeddings of both models, in float32, each with its own tokenizer.

    Raises:
        InputError: If they differ by more than rounding.
    """
    try:
        open_clip = import_module("open_clip")
    except (ImportError, RuntimeError):  # torchvision, which it needs, may not fit to torch
        return None
    reference = open_clip.CLIP(**{key: config[key] for key in MODEL_KEYS if key in config}).float().eval()
    reference.load_state_dict(weights)
    dtype, size = model.dtype, cast(int, cast(CLIPVisionConfig, model.config.vision_config).image_size)
    pixels = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    texts = ["a photo of a cat.", "Two dogs, a COW and much more"]
    tokens = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    model.float().eval()
    ours = [model.get_image_features(pixels).pooler_output, model.get_text_features(**tokens).pooler_output]
    cast(nn.Module, model).to(dtype)
    their_tokens = open_clip.tokenize(texts, tokenizer.model_max_length)
    theirs = [reference.encode_image(pixels), reference.encode_text(their_tokens)]
    pairs = zip(ours, theirs, strict=True)
    difference = max(float((functional.normalize(a) - functional.normalize(b)).abs().max()) for a, b in pairs)
    if difference > TOLERANCE:
        raise InputError(f"The embeddings of the converted model differ from open_clip's, by {difference:.1e}.")
    return difference
