"""Translate open_clip configs and tensors to those of `CLIPModel` (Ilharco et al., OpenCLIP, 2021)."""

import re
from collections.abc import Collection, Mapping

import numpy as np
from torch import Tensor

from hf_paint.documents.reading import Json
from hf_paint.errors import InputError


Config = Json
"""An open_clip config, or part of one, read from JSON."""

_NAMES = {
    r"visual\.class_embedding": "vision_model.embeddings.class_embedding",
    r"visual\.conv1\.": "vision_model.embeddings.patch_embedding.",
    r"visual\.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    r"visual\.ln_pre\.": "vision_model.pre_layrnorm.",
    r"visual\.ln_post\.": "vision_model.post_layernorm.",
    r"visual\.transformer\.resblocks\.": "vision_model.encoder.layers.",
    r"token_embedding\.": "text_model.embeddings.token_embedding.",
    r"positional_embedding": "text_model.embeddings.position_embedding.weight",
    r"transformer\.resblocks\.": "text_model.encoder.layers.",
    r"ln_final\.": "text_model.final_layer_norm.",
}
_NAMES_IN_LAYER = {
    ".attn.": ".self_attn.",
    ".ln_1.": ".layer_norm1.",
    ".ln_2.": ".layer_norm2.",
    ".mlp.c_fc.": ".mlp.fc1.",
    ".mlp.c_proj.": ".mlp.fc2.",
}
_PROJECTIONS = {"visual.proj": "visual_projection.weight", "text_projection": "text_projection.weight"}
_TOWERS = {
    "text_model.encoder.layers.": "text tower (`transformer.*`)",
    "vision_model.encoder.layers.": "image tower (`visual.*`)",
}
_WRAPPERS = ("module.", "text.")
"""Prefixes of tensor names in training checkpoints, and in models with a separate text tower (custom_text)."""

MODEL_KEYS = ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")
_VISION = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 16, "head_width": 64, "mlp_ratio": 4.0}
_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12, "mlp_ratio": 4.0}
"""Config keys of the text tower -> defaults; `_VISION` has those of the vision tower."""

_RESIZING = {"resize_mode": "shortest", "interpolation": "bicubic"}
_MOST_LAYERS, _LARGEST = 1000, 10**7
"""Bounds of the sizes of a model, which is laid out before its weights are read."""

_ANY = None
_NEUTRAL: dict[str, dict[str, str | None]] = {
    "model_cfg": {"custom_text": _ANY, "init_logit_scale": _ANY},
    "vision_cfg": {"pool_type": "tok", "pos_embed_type": "learnable", "patch_dropout": _ANY},
    "text_cfg": {"pool_type": "argmax", "proj_type": "linear", "pad_id": _ANY, "eos_id": _ANY},
}
"""Keys without an equivalent in `CLIPModel`, and the value at which they have no effect at inference (or any)."""


def clip_config(config: Config) -> Config:
    """Convert the `model_cfg` of an open_clip model to arguments of `CLIPConfig`.

    Raises:
        InputError: If the model has a feature that `CLIPModel` does not support; the message names the feature.

    Example:
        >>> vision = {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32}
        >>> text = {"context_length": 77, "vocab_size": 49408, "width": 512, "heads": 8, "layers": 12}
        >>> clip_config({"embed_dim": 512, "vision_cfg": vision, "text_cfg": text})["vision_config"]["hidden_act"]
        'gelu'
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    _check("model_cfg", config, MODEL_KEYS)
    _check("vision_cfg", vision, _VISION)
    _check("text_cfg", text, _TEXT)
    vision, text = _VISION | vision, _TEXT | text
    for part, sizes, known in (("vision_cfg", vision, _VISION), ("text_cfg", text, _TEXT)):
        _check_sizes(part, {key: sizes[key] for key in known})
    _check_sizes("model_cfg", {"embed_dim": config["embed_dim"]})
    shared = {
        "projection_dim": config["embed_dim"],
        "hidden_act": "quick_gelu" if config.get("quick_gelu") else "gelu",
    }
    images = {"image_size": vision["image_size"], "patch_size": vision["patch_size"]}
    end = text["vocab_size"] - 1  # open_clip pools at the highest token id, which is end-of-text
    tokens = {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end, "vocab_size": end + 1}
    return {
        "projection_dim": config["embed_dim"],
        "vision_config": shared | images | _transformer(vision, vision["width"] // vision["head_width"]),
        "text_config": shared
        | tokens
        | {"max_position_embeddings": text["context_length"]}
        | _transformer(text, text["heads"]),
    }


def plain_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove prefixes from the tensor names of an open_clip model, and drop the attention mask.

    Example:
        >>> list(plain_weights({"module.text.ln_final.bias": torch.zeros(2), "attn_mask": torch.zeros(2, 2)}))
        ['ln_final.bias']
    """
    plain = {}
    for name, tensor in weights.items():
        for wrapper in _WRAPPERS:
            name = name.removeprefix(wrapper)
        plain[name] = tensor
    plain.pop("attn_mask", None)
    return plain


def clip_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the output of `plain_weights` to the tensors of a `CLIPModel`.

    In open_clip, the query, key and value projections of an attention layer are a single tensor, and the projections
    to embeddings are transposed.

    Example:
        >>> sorted(clip_weights({"transformer.resblocks.3.attn.in_proj_bias": torch.zeros(6)}))[0]
        'text_model.encoder.layers.3.self_attn.k_proj.bias'
    """
    converted = {}
    for name, tensor in weights.items():
        if name in _PROJECTIONS:
            converted[_PROJECTIONS[name]] = tensor.T.contiguous()
        elif match := re.fullmatch(r"(.+\.attn\.)in_proj_(weight|bias)", name):
            for projection, part in zip("qkv", tensor.chunk(3), strict=True):
                converted[f"{_rename(match[1])}{projection}_proj.{match[2]}"] = part.clone()
        else:
            converted[_rename(name)] = tensor
    return converted


def check_weights(expected: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    """Check that converted weights have the names and shapes that `CLIPModel` expects.

    Raises:
        InputError: If a tower or a tensor is missing, unexpected or of a different shape.
    """
    for start, tower in _TOWERS.items():
        wanted, found = (any(name.startswith(start) for name in side) for side in (expected, weights))
        if wanted and not found:
            raise InputError(f"The open_clip model has no {tower}. Add the tensors of this tower from its base.")
    for name in sorted(expected.keys() | weights.keys()):
        target, shape = (tuple(side[name].shape) if name in side else None for side in (expected, weights))
        if target is None:
            raise InputError(f"The open_clip model has a tensor '{name}' of shape {shape}, but CLIPModel does not.")
        if target != shape:
            raise InputError(f"The open_clip model must have '{name}' of shape {target}, got {shape or 'nothing'}.")


def image_settings(preprocess: Config, image_size: int) -> Config:
    """Convert the `preprocess_cfg` of an open_clip model to arguments of `CLIPImageProcessor`.

    Raises:
        InputError: If `CLIPImageProcessor` cannot resize images this way.

    Example:
        >>> image_settings({"interpolation": "bicubic", "resize_mode": "squash"}, 224)["size"]
        {'height': 224, 'width': 224}
    """
    square = {"height": image_size, "width": image_size}
    sizes = {"shortest": {"shortest_edge": image_size}, "squash": square}
    resamples = {"bicubic": 3, "bilinear": 2, "random": 3}  # `random` applies only in training
    mode, interpolation = (str(preprocess.get(key) or default) for key, default in _RESIZING.items())
    if mode not in sizes or interpolation not in resamples:
        raise InputError(
            f"CLIPImageProcessor cannot resize images as the open_clip model requires: `resize_mode: {mode}`, "
            f"`interpolation: {interpolation}`."
        )
    for key in ("mean", "std"):
        values = preprocess.get(key) or [0.5]
        numbers = values if isinstance(values, list) else [values]
        if len(numbers) not in (1, 3) or not all(type(value) in (int, float) for value in numbers):
            raise InputError(f"The `{key}` of the open_clip model must be a number per channel, got {values!r:.40}.")
    settings = {"size": sizes[mode], "crop_size": square, "resample": resamples[interpolation]}
    statistics = [key for key in ("mean", "std") if preprocess.get(key)]
    return settings | {f"image_{key}": np.broadcast_to(preprocess[key], 3).tolist() for key in statistics}


def _transformer(config: Config, num_heads: int) -> dict[str, int]:
    return {
        "hidden_size": config["width"],
        "intermediate_size": int(config["width"] * config["mlp_ratio"]),
        "num_hidden_layers": config["layers"],
        "num_attention_heads": num_heads,
    }


def _check(part: str, config: Config, known: Collection[str]) -> None:
    """Raise an error if part of a config contains a key that has an effect but no equivalent in `CLIPModel`."""
    for key, value in config.items():
        neutral = key in known or not value or _NEUTRAL[part].get(key, ()) in (value, _ANY)
        if not neutral or isinstance(value, list):  # ResNet layers, or a non-square size
            raise InputError(
                f"CLIPModel does not support `{key}: {value}` in the {part} of the open_clip model. Only models with "
                "the architecture of OpenAI's vision and text transformers can be converted."
            )


def _check_sizes(part: str, sizes: Config) -> None:
    """Raise an error if a size of a model is not a positive number within reason."""
    for key, value in sizes.items():
        kinds = (int, float) if key == "mlp_ratio" else (int,)
        if type(value) not in kinds or not 0 < value <= (_MOST_LAYERS if key == "layers" else _LARGEST):
            raise InputError(f"The {part} of the open_clip model is damaged: its `{key}` is {value!r:.40}.")


def _rename(name: str) -> str:
    for pattern, replacement in _NAMES.items():
        if match := re.match(pattern, name):
            name = replacement + name[match.end() :]
            break
    for old, new in _NAMES_IN_LAYER.items():
        name = name.replace(old, new)
    return name
