"""Embed prompts. For CLIP, prompts are packed into rows, so that common prefixes are only computed once."""

from collections.abc import Hashable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from transformers import CLIPModel, CLIPTextModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_paint.errors import InputError
from hf_paint.models.families import family_of
from hf_paint.models.processes import embed_batches, own_device
from hf_paint.models.towers import TextTower, move


TokenIds = tuple[int, ...]
Item = TypeVar("Item")
ROWS, ROWS_ON_GPU = 16, 128
"""Rows per forward pass."""


@dataclass
class Row:
    """Several prompts packed into one input of the text tower: a tree of tokens in depth-first order.

    Args:
        ids: Token ids.
        positions: Position of each token in its prompt, which is also its depth in the tree.
        ends: Index of the last token of each prompt.
    """

    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)


@torch.no_grad()
def embed_prompts(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    *,
    batch_size: int | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Tensor:
    """Return text embeddings of unit length, the same as if each prompt were embedded separately.

    If there are several processes, all of them must call this function. Each embeds some of the batches. Batches are
    never split, so the result is bit-for-bit independent of the number of processes.

    Args:
        model: Model whose text tower embeds the prompts. The tower is copied to the device of the process.
        tokenizer: Tokenizer of the model.
        prompts: Texts of any length. Texts longer than the context are truncated, but keep their end-of-text token.
        batch_size: Rows per forward pass, by default 16, and 128 on a GPU. A packed row is as long as the context and
            contains many short prompts.
        precision: Precision that the text tower runs in, regardless of the model's dtype.

    Returns:
        Embeddings (num_prompts, embed_dim), in float32 on the CPU.

    Raises:
        InputError: If the tokenizer does not add the end-of-text token that the text tower needs.

    Example:
        >>> embed_prompts(model, tokenizer, ["a cat", "a dog"]).shape
        torch.Size([2, 24])
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    batch_size = batch_size or (ROWS_ON_GPU if own_device().type == "cuda" else ROWS)
    tokenizer = deepcopy(tokenizer)  # truncation changes its state, which would be saved with the model
    if isinstance(model, CLIPModel):
        embeds = _embed_packed(model, tokenizer, prompts, batch_size, dtype)
    else:
        embeds = _embed_padded(model, tokenizer, prompts, batch_size, dtype)
    return functional.normalize(embeds, dim=-1)


def context_length(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the number of tokens after which prompts are cut."""
    positions: int = model.config.text_config.max_position_embeddings
    return family_of(model).prompt_length or min(tokenizer.model_max_length, positions)


def _embed_packed(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], batch_size: int, dtype: torch.dtype
) -> Tensor:
    """Return CLIP's text embeddings (num_prompts, embed_dim), computed with several prompts per row."""
    config: PreTrainedConfig = model.config
    context = context_length(model, tokenizer)
    sequences = tokenize(tokenizer, prompts, context, config.text_config.eos_token_id)
    distinct = sorted(set(sequences))
    device = own_device()
    tower = deepcopy(model.text_model).to(device, dtype).eval()
    tower.set_attn_implementation("sdpa")  # flash attention does not support the mask
    projection = model.text_projection.weight.to(device).float()

    def embed(rows: Sequence[Row]) -> Tensor:
        return functional.linear(_last_hidden_states(tower, rows).float(), projection)

    embeds = embed_batches(embed, _batches(pack_prompts(distinct, context), batch_size))
    return embeds[_positions(distinct, sequences)]


def _embed_padded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return text embeddings (num_prompts, embed_dim) for any family, one prompt per row, padded as in pipelines."""
    family = family_of(model)
    padding = "max_length" if family.prompt_length else True
    texts = [prompt.lower() for prompt in prompts] if family.lower_case else prompts
    distinct = sorted(set(texts), key=lambda text: (len(text), text))  # less padding if rows have similar lengths
    device = own_device()
    tower: nn.Module = move(deepcopy(TextTower(model)), device, dtype)
    tower.eval()

    def embed(rows: Sequence[str]) -> Tensor:
        """Return the embeddings of a batch of prompts."""
        tokens = tokenizer(
            rows,
            padding=padding,
            max_length=context_length(model, tokenizer),
            truncation=True,
            return_tensors="pt",
        )
        embeds: Tensor = tower(**tokens.to(device))
        return embeds.float()

    embeds = embed_batches(embed, _batches(distinct, batch_size))
    return embeds[_positions(distinct, texts)]


def _positions(distinct: Sequence[Hashable], items: Sequence[Hashable]) -> list[int]:
    """Return the position of each item in `distinct`."""
    position = {item: index for index, item in enumerate(distinct)}
    return [position[item] for item in items]


def _batches(rows: Sequence[Item], batch_size: int) -> list[Sequence[Item]]:
    return [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]


def pack_prompts(sequences: Sequence[TokenIds], length: int) -> list[Row]:
    """Pack tokenised prompts into rows of at most `length` tokens.

    The text tower is causal, so the states of "a photo of a" do not depend on the words that follow. A prompt thus
    only adds the tokens that it does not share with the previous prompt in its row.

    Args:
        sequences: Distinct sequences in sorted order, each with at most `length` tokens.
        length: Maximum number of tokens per row.

    Example:
        >>> pack_prompts([(1, 5, 2), (1, 6, 2), (1, 6, 3)], 6)
        [Row(ids=[1, 5, 2, 6, 2, 3], positions=[0, 1, 2, 1, 2, 2], ends=[2, 4, 5])]
    """
    rows = [Row()]
    previous: TokenIds = ()
    for sequence in sequences:
        shared = _shared_length(previous, sequence)
        if len(rows[-1].ids) + len(sequence) - shared > length:
            rows.append(Row())
            shared = 0
        row = rows[-1]
        row.ids += sequence[shared:]
        row.positions += range(shared, len(sequence))
        row.ends.append(len(row.ids) - 1)
        previous = sequence
    return rows


def ancestor_mask(positions: Tensor) -> Tensor:
    """Return the attention mask of packed rows: each token sees itself and the earlier tokens of its own prompt.

    In depth-first order, the prompts that contain a token end before the next token that is not deeper.

    Args:
        positions: Depths of the tokens, shape (rows, length).

    Returns:
        Booleans of shape (rows, length, length). The value at [r, i, j] is true if, in row r, token i sees token j.

    Example:
        >>> ancestor_mask(torch.tensor([[0, 1, 1]])).int()
        tensor([[[1, 0, 0],
                 [1, 1, 0],
                 [1, 0, 1]]], dtype=torch.int32)
    """
    order = torch.arange(positions.shape[1], device=positions.device)
    no_deeper = positions[:, :, None] <= positions[:, None, :]  # (rows, i, j)
    left = (no_deeper & (order[:, None] > order)).cumsum(dim=1) > 0  # whether there is one after j, up to i
    return ~left & (order[:, None] >= order)


def _last_hidden_states(tower: CLIPTextModel, rows: Sequence[Row]) -> Tensor:
    """Return the hidden state of the last token of each prompt, (num_prompts, hidden_size)."""
    ids = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True).to(tower.device)
    positions = pad_sequence([torch.tensor(row.positions) for row in rows], batch_first=True).to(tower.device)
    mask = torch.where(ancestor_mask(positions), 0.0, -torch.inf).to(tower.dtype)  # added to the attention scores
    hidden = tower(input_ids=ids, attention_mask=mask[:, None], position_ids=positions).last_hidden_state
    ends = [number * ids.shape[1] + end for number, row in enumerate(rows) for end in row.ends]
    states: Tensor = hidden.flatten(0, 1)[torch.tensor(ends).to(hidden.device)]  # one copy to the device for all rows
    return states


def tokenize(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], context: int, end_of_text: int
) -> list[TokenIds]:
    """Return the token ids of each prompt that CLIP reads: up to the token that the text tower pools.

    Raises:
        InputError: If the tokenizer does not add the end-of-text token that the text tower needs.
    """
    tokens = tokenizer(list(prompts), truncation=True, max_length=context, return_attention_mask=False)
    sequences = []
    for ids in tokens.input_ids:
        end = max(ids) if end_of_text == 2 else end_of_text  # with old configs (2), the tower pools at the highest id
        if end not in ids:
            raise InputError(f"The tokenizer does not add the end-of-text token of the text tower, {end_of_text}.")
        sequences.append(tuple(ids[: ids.index(end) + 1]))
    return sequences


def _shared_length(first: TokenIds, second: TokenIds) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(first), len(second)))
