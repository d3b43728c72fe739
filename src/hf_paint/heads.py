"""The zero-shot head: a frozen linear classifier made of text embeddings (Radford et al., 2021, Section 3.1.4)."""

import logging
from collections.abc import Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from hf_paint.errors import InputError
from hf_paint.families import logit_scale
from hf_paint.files import save_atomically
from hf_paint.fingerprints import fingerprint_values, fingerprint_weights
from hf_paint.losses import masked_cross_entropy
from hf_paint.prompts import embed_prompts
from hf_paint.tasks.task import Task
from hf_paint.weights.layers import IMAGE_TOWER


logger = logging.getLogger(__name__)


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

    def loss(self, image_embeds: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of image embeddings (batch, embed_dim) with labels (batch,), in nats.

        A trainer needs no more than this of a head: what an image is compared with is the head's own affair.
        """
        return functional.cross_entropy(self(image_embeds), labels, label_smoothing=label_smoothing)

    def compare(self, image_embeds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return the logits (batch, num_columns) that an evaluation looks at, and the right columns (batch,)."""
        return self(image_embeds), labels


class GroupedHead(ZeroShotHead):
    """A head whose classes have one row or more each; the logit of a class is the highest of its rows.

    Args:
        weight: shape (num_rows, embed_dim), rows of unit length.
        logit_scale: shape (), the exponentiated scale.
        members: shape (num_classes, max_rows), the rows of each class; a class with fewer repeats one of them.

    Example:
        >>> head = GroupedHead(torch.eye(3), torch.tensor(100.0), torch.tensor([[0, 2], [1, 1]]))
        >>> head(torch.tensor([[0.0, 0.0, 1.0]]))
        tensor([[100.,   0.]])
    """

    members: Tensor

    def __init__(self, weight: Tensor, logit_scale: Tensor, members: Tensor) -> None:
        super().__init__(weight, logit_scale)
        self.register_buffer("members", members)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of un-normalised image embeddings (batch, embed_dim)."""
        return super().forward(image_embeds)[:, self.members].amax(dim=-1)  # over (batch, num_classes, max_rows)


class CandidateHead(ZeroShotHead):
    """A head of texts, with some of which each image is compared: the candidate answers to a question about it.

    Labels are rows of whole numbers, shape (batch, 1 + max_candidates): the position of the answer among the
    candidates, then the rows of the candidates, -1 behind the last one.

    Example:
        >>> head = CandidateHead(torch.eye(3), torch.tensor(100.0))
        >>> head.compare(torch.tensor([[0.0, 2.0, 0.0]]), torch.tensor([[1, 2, 1, -1]]))
        (tensor([[  0., 100., -inf]]), tensor([1]))
    """

    def compare(self, image_embeds: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (batch, max_candidates), minus infinity behind the last one, and the positions (batch,)."""
        candidates, image_embeds = labels[:, 1:], functional.normalize(image_embeds, dim=-1).unsqueeze(-1)
        # (batch, max_candidates, embed_dim) @ (batch, embed_dim, 1)
        logits = self.logit_scale * (self.weight[candidates.clamp(min=0)] @ image_embeds).squeeze(-1)
        return logits.masked_fill(candidates < 0, -torch.inf), labels[:, 0]

    def loss(self, image_embeds: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
        """Return the mean cross-entropy of image embeddings (batch, embed_dim), each against its own candidates."""
        logits, positions = self.compare(image_embeds, labels)
        return masked_cross_entropy(logits, positions, labels[:, 1:] < 0, label_smoothing=label_smoothing)


def build_task_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    task: Task,
    class_names: Sequence[str],
    *,
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the head of a task: that of its class names, of its `class_groups`, or of all its candidates.

    Args:
        model: The model whose text tower embeds the prompts.
        tokenizer: The tokenizer of that model.
        task: The task.
        class_names: The classes of the task or of its half, or the texts of all candidates, in the order of the rows.
        cache_dir: Where heads are kept.
    """
    if task.class_groups is None:
        head = build_zero_shot_head(model, tokenizer, class_names, task.templates, cache_dir=cache_dir)
        return head if task.choices_column is None else _candidate_head(head, task)
    groups = [task.class_groups[name] for name in class_names]
    names = [name for group in groups for name in group]
    head = build_zero_shot_head(model, tokenizer, names, task.templates, cache_dir=cache_dir)
    return GroupedHead(head.weight, head.logit_scale, member_rows(groups, names))


def member_rows(groups: Sequence[Sequence[Hashable]], names: Sequence[Hashable]) -> Tensor:
    """Return the rows of each class, shape (num_classes, max_rows), of a head with one row per name.

    Example:
        >>> member_rows([["bike", "tandem"], ["car"]], ["car", "bike", "tandem"])
        tensor([[1, 2],
                [0, 0]])
    """
    row, longest = {name: index for index, name in enumerate(names)}, max(map(len, groups))
    return torch.tensor([[row[name] for name in [*group, *[group[0]] * (longest - len(group))]] for group in groups])


def _candidate_head(head: ZeroShotHead, task: Task) -> CandidateHead:
    """Return the head with the same rows, and say so if some are equal: a text may have been cut before its answer."""
    if equal := len(head.weight) - len(head.weight.unique(dim=0)):
        logger.warning(
            f"{equal} of the {len(head.weight)} candidates of task '{task.name}' read the same as another: the model "
            "cuts what is longer than its context. Put the answer first in `prompt`, or shorten it."
        )
    return CandidateHead(head.weight, head.logit_scale)


@torch.no_grad()
def build_zero_shot_head(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    class_names: Sequence[str],
    templates: Sequence[str],
    *,
    batch_size: int = 16,
    precision: Literal["fp32", "bf16"] = "fp32",
    cache_dir: str | Path | None = None,
) -> ZeroShotHead:
    """Build the head of a task from its class names and prompt templates.

    Each prompt is embedded and normalised, the embeddings of a class are averaged over the templates and normalised
    again. `embed_prompts` packs them, which is many times faster than one by one, and shares them among the processes
    of a launcher, all of which have to call this.

    Args:
        model: The model whose text tower embeds the prompts.
        tokenizer: The tokenizer of that model.
        class_names: The names of the classes, in the order of the logits.
        templates: Prompts with one `{}` each.
        batch_size: Rows of packed prompts per forward pass; a row is as long as the context.
        precision: The arithmetic of the text tower, whatever the dtype of the model.
        cache_dir: Where heads are kept, one file for all that is above; None keeps none.

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
    key = (class_names, templates, precision)
    cache = _cache_file(model, tokenizer, key, cache_dir) if cache_dir is not None else None
    cached = _read(cache) if cache is not None else None
    if all(gather_object([cached is not None])):  # some may look elsewhere, or a moment later
        return cast(ZeroShotHead, cached)
    prompts = [template.replace("{}", name) for name in class_names for template in templates]
    text_embeds = embed_prompts(model, tokenizer, prompts, batch_size=batch_size, precision=precision)
    text_embeds = text_embeds.unflatten(0, (len(class_names), len(templates)))
    weight = functional.normalize(text_embeds.mean(dim=1), dim=-1)  # (num_classes, embed_dim)
    head = ZeroShotHead(weight, logit_scale(model))
    if cache is not None and PartialState().is_local_main_process:
        save_atomically(cache, partial(save_file, head.state_dict()))
    return head


def _cache_file(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, key: tuple[Any, ...], cache_dir: str | Path
) -> Path:
    text_tower = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(IMAGE_TOWER)}
    config = model.config.text_config.to_diff_dict()
    vocabulary = tokenizer.backend_tokenizer.to_str() if tokenizer.is_fast else tokenizer.get_vocab()
    name = fingerprint_values(fingerprint_weights(text_tower), config, vocabulary, tokenizer.model_max_length, *key)
    return Path(cache_dir) / "heads" / f"{name}.safetensors"


def _read(path: Path) -> ZeroShotHead | None:
    """Return the head in a file; None if there is no file, or a broken one, which is then written anew."""
    try:
        return ZeroShotHead(**load_file(path))
    except (FileNotFoundError, SafetensorError):
        return None
