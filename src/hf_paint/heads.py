"""The zero-shot head: a frozen linear classifier made of text embeddings (Radford et al., 2021, Section 3.1.4)."""

import os
import secrets
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import cast

import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from tqdm.auto import tqdm
from transformers import CLIPModel, CLIPTextConfig, PreTrainedTokenizerBase

from hf_paint.errors import InputError
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights


TEXT_TOWER = ("text_model.", "text_projection.", "logit_scale")


class ZeroShotHead(nn.Module):
    """A frozen classifier whose rows are text embeddings; it has buffers and no parameters.

    Args:
        weight: shape (num_classes, embed_dim), rows of unit length.
        logit_scale: shape (), the exponentiated scale (100 for OpenAI's models).

    Example:
        >>> head = ZeroShotHead(torch.eye(2), torch.tensor(100.0))
        >>> head(torch.tensor([[3.0, 0.0]]))
        tensor([[100.,   0.]])
    """

    weight: Tensor
    logit_scale: Tensor

    def __init__(self, weight: Tensor, logit_scale: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.register_buffer("logit_scale", logit_scale)

    @property
    def fingerprint(self) -> str:
        """Fingerprint of the weight and the scale."""
        return fingerprint_weights(self.state_dict())

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of un-normalised image embeddings (batch, embed_dim)."""
        image_embeds = functional.normalize(image_embeds, dim=-1)
        return self.logit_scale * image_embeds @ self.weight.T  # (batch, embed_dim) @ (embed_dim, num_classes)


@torch.no_grad()
def build_zero_shot_head(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    batch_size: int = 256,
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the head of a task from its class names and prompt templates.

    Each prompt is embedded and normalised, the embeddings of a class are averaged over the templates and normalised
    again. A prompt that is longer than the context is cut, and keeps its end-of-text token, which is where the text
    tower reads. Distinct prompts are embedded once, and batches hold prompts of similar length.

    Args:
        model: The model whose text tower embeds the prompts; it is used as it is, on its device and in its dtype.
        tokenizer: The tokenizer of that model.
        class_names: The names of the classes, in the order of the logits.
        templates: Prompts with one `{}` each.
        batch_size: Prompts per forward pass.
        cache_dir: Where heads are kept, one file per (text tower, tokenizer, class names, templates); None keeps none.

    Returns:
        The head, in float32 on the CPU.

    Raises:
        InputError: If there is no class name or no template.

    Example:
        >>> head = build_zero_shot_head(model, tokenizer, ["cat", "dog"], ["a photo of a {}."])
        >>> head.weight.shape
        torch.Size([2, 24])
    """
    if not class_names or not templates:
        raise InputError("A zero-shot head needs at least one class name and one template.")
    cache = _cache_file(model, tokenizer, class_names, templates, cache_dir) if cache_dir is not None else None
    if cache is not None and cache.exists():
        return ZeroShotHead(**load_file(cache))
    prompts = [template.replace("{}", name) for name in class_names for template in templates]
    text_embeds = _embed(model, tokenizer, prompts, batch_size)  # (num_classes * num_templates, embed_dim)
    text_embeds = text_embeds.unflatten(0, (len(class_names), len(templates)))
    weight = functional.normalize(text_embeds.mean(dim=1), dim=-1)  # (num_classes, embed_dim)
    head = ZeroShotHead(weight, model.logit_scale.detach().float().exp().cpu().clone())
    if cache is not None:
        _save_atomically(head, cache)
    return head


def default_cache_dir() -> Path:
    """Return where heads and decoded pixels are kept: `$HF_PAINT_CACHE`, or `hf_paint` in the Hugging Face home."""
    return Path(os.environ.get("HF_PAINT_CACHE", Path(constants.HF_HOME) / "hf_paint")).expanduser()


def _embed(model: CLIPModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], batch_size: int) -> Tensor:
    """Return unit-norm text embeddings (num_prompts, embed_dim) in float32 on the CPU."""
    distinct = sorted(set(prompts), key=len)
    context = min(tokenizer.model_max_length, _text_config(model).max_position_embeddings)
    embedded = []
    tokenizer = deepcopy(tokenizer)  # padding and truncation would stay in it, and be saved with it
    training = model.training
    model.eval()
    for start in tqdm(range(0, len(distinct), batch_size), "Embedding prompts", disable=len(distinct) <= batch_size):
        batch = distinct[start : start + batch_size]
        tokens = tokenizer(batch, padding=True, truncation=True, max_length=context, return_tensors="pt")
        features = model.get_text_features(**tokens.to(model.device)).pooler_output
        embedded.append(functional.normalize(features.float(), dim=-1).cpu())
    model.train(training)
    row = {prompt: index for index, prompt in enumerate(distinct)}
    return torch.cat(embedded)[[row[prompt] for prompt in prompts]]


def _cache_file(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    class_names: Sequence[str],
    templates: Sequence[str],
    cache_dir: str | Path,
) -> Path:
    text_tower = {name: tensor for name, tensor in model.state_dict().items() if name.startswith(TEXT_TOWER)}
    config = _text_config(model).to_diff_dict()
    vocabulary = tokenizer.backend_tokenizer.to_str()
    key = fingerprint_values(
        fingerprint_weights(text_tower), config, vocabulary, tokenizer.model_max_length, class_names, templates
    )
    return Path(cache_dir) / "heads" / f"{key}.safetensors"


def _text_config(model: CLIPModel) -> CLIPTextConfig:
    return cast(CLIPTextConfig, model.config.text_config)


def _save_atomically(head: ZeroShotHead, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    save_file(head.state_dict(), partial)
    partial.replace(path)
