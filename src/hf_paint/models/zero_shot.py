"""Build zero-shot heads from class names and prompt templates (Radford et al., 2021, Section 3.1.4)."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import torch
import transformers
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.files import remove_any
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.models.families import logit_scale
from hf_paint.models.fingerprinted import load_fingerprinted, save_fingerprinted
from hf_paint.models.given import ModelLike, load_given
from hf_paint.models.heads import CandidateHead, GroupedHead, ZeroShotHead, member_rows
from hf_paint.models.processes import agree, is_first_on_node
from hf_paint.models.prompt_checks import warn_of_prompts
from hf_paint.models.prompts import embed_prompts
from hf_paint.models.task_file import TaskClasses
from hf_paint.tasks.checks import check_templates
from hf_paint.tasks.task import Task
from hf_paint.weights.layers import IMAGE_TOWER


CODE = ("families.py", "prompts.py", "zero_shot.py")
"""Modules that determine a head. After any change to them, cached heads are built again, which takes little time."""

logger: logging.Logger = logging.getLogger(__name__)


def build_task_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    class_names: Sequence[str],
    *,
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the head of a task from its class names, its `class_groups` or, for multiple choice, all candidates.

    Args:
        model: Model whose text tower embeds the prompts.
        tokenizer: Tokenizer of the model.
        task: The task.
        class_names: Class names of the task (or of the classes it is restricted to) or, for multiple choice, the
            prompts of all candidates, in the order of the head's rows.
        cache_dir: Cache folder for heads.
    """
    warn_of_prompts(model, tokenizer, task, class_names)
    return build_listed_head(model, tokenizer, TaskClasses.of(task, class_names), cache_dir=cache_dir)


def build_listed_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: TaskClasses,
    *,
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the zero-shot head of a task from its classes and prompts, for instance those listed in `tasks.json`.

    Args:
        model: Model whose text tower embeds the prompts.
        tokenizer: Tokenizer of the model.
        task: Classes and prompts of the task.
        cache_dir: Cache folder for heads.
    """
    names = [name for group in task.members for name in group]
    head = build_zero_shot_head(model, tokenizer, names, task.templates, cache_dir=cache_dir)
    if task.class_groups is not None:
        return GroupedHead(head.weight, head.logit_scale, member_rows(task.members, names))
    return CandidateHead(head.weight, head.logit_scale) if task.is_multiple_choice else head


@torch.no_grad()
def build_zero_shot_head(
    model: ModelLike,
    tokenizer: PreTrainedTokenizerBase | ProcessorMixin | None,
    class_names: Sequence[str],
    templates: str | Sequence[str],
    *,
    batch_size: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the head of a task from its class names and prompt templates.

    Each prompt is embedded and the embedding is normalised. For each class, the embeddings are averaged over templates
    and normalised again. If there are several processes, all of them must call this function, and they share the work
    (see `embed_prompts`).

    Args:
        model: Model whose text tower embeds the prompts; a Hub repository id or a folder is loaded.
        tokenizer: Tokenizer or processor of the model; None for its own (see `load_given`).
        class_names: Class names, in the order of the logits.
        templates: Prompts, each with one `{}`; or a single one.
        batch_size: Rows of packed prompts per forward pass, by default 16, and 128 on a GPU; a row is as long as the
            context.
        precision: Precision that the text tower runs in, regardless of the model's dtype.
        cache_dir: Cache folder for heads; if None, nothing is cached.

    Returns:
        The head, in float32 on the CPU.

    Raises:
        InputError: If the model cannot be loaded, if there are no class names or no templates, or if a template does
            not have exactly one `{}`.

    Example:
        >>> head = build_zero_shot_head(model, tokenizer, ["cat", "dog"], ["a photo of a {}."])
        >>> head.weight.shape
        torch.Size([2, 24])
    """
    if isinstance(class_names, str) or not class_names or not templates:
        raise InputError(
            "A zero-shot head needs a list with at least one class name, and at least one template; got "
            f"{class_names!r} and {templates!r}."
        )
    tokenizer = tokenizer.tokenizer if isinstance(tokenizer, ProcessorMixin) else tokenizer
    if tokenizer is None or not isinstance(model, PreTrainedModel):
        model, processor = load_given(model)
        tokenizer = tokenizer or processor.tokenizer
    templates = (templates,) if isinstance(templates, str) else templates
    check_templates(templates)
    key = (class_names, templates, precision)
    cache = _cache_file(model, tokenizer, key, cache_dir) if cache_dir is not None else None
    cached = _read(cache) if cache is not None else None
    is_cached = agree(cached is not None)  # the caches of other processes may differ
    if cached is not None and is_cached:
        return cached
    prompts = [template.replace("{}", name) for name in class_names for template in templates]
    text_embeds = embed_prompts(model, tokenizer, prompts, batch_size=batch_size, precision=precision)
    text_embeds = text_embeds.unflatten(0, (len(class_names), len(templates)))
    weight = functional.normalize(text_embeds.mean(dim=1), dim=-1)  # (num_classes, embed_dim)
    head = ZeroShotHead(weight, logit_scale(model))
    if cache is not None and is_first_on_node():
        save_fingerprinted(cache, head.state_dict())
    return head


def _cache_file(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: tuple[object, ...], cache_dir: str | Path
) -> Path:
    text_tower = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(IMAGE_TOWER)}
    config = model.config.text_config.to_diff_dict()
    code = [Path(__file__).with_name(file).read_text(encoding="utf-8") for file in CODE]
    code += [torch.__version__, transformers.__version__]
    vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else tokenizer.get_vocab()
    text_model = (fingerprint_weights(text_tower), config, vocabulary, tokenizer.model_max_length)
    name = fingerprint_values(*text_model, code, *key)
    return Path(cache_dir) / "heads" / f"{name}.safetensors"


def _read(path: Path) -> ZeroShotHead | None:
    """Load a head from a file; return None if there is none. A damaged one is dropped with a warning."""
    if not path.exists():
        return None
    try:
        weights = load_fingerprinted(path)
        return ZeroShotHead(weights["weight"], weights["logit_scale"])
    except (InputError, KeyError):
        logger.warning(f"The cached head {path} is damaged, so it is made again.")
        with suppress(OSError):  # a read-only cache
            remove_any(path)
        return None
