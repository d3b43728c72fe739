"""Text embeddings of prompts. CLIP's are packed into rows, in which they share the beginnings they have in common."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from tqdm.auto import tqdm
from transformers import CLIPModel, CLIPTextConfig, CLIPTextModel, PreTrainedModel, PreTrainedTokenizerBase

from hf_paint.errors import InputError
from hf_paint.models.families import family_of
from hf_paint.models.towers import TextTower


TokenIds = tuple[int, ...]


@dataclass
class Row:
    """Several prompts as one input of the text tower: a tree of tokens, in depth-first order.

    Args:
        ids: The token ids.
        positions: For each token its position in its prompt, which is its depth in the tree.
        ends: For each prompt the index of its last token.
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
    batch_size: int = 16,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> Tensor:
    """Return text embeddings of unit length, equal to those of each prompt on its own.

    The processes of a launcher share the prompts, whole batches each, so that the bits do not depend on their number:
    all of them have to call this.

    Args:
        model: The model whose text tower embeds the prompts: a copy of it, on the device of the process.
        tokenizer: The tokenizer of that model.
        prompts: Any texts. One that is longer than the context is cut, and keeps its end-of-text token.
        batch_size: Rows per forward pass; a packed row is as long as the context and holds many short prompts.
        precision: The arithmetic of the text tower, whatever the dtype of the model.

    Returns:
        The embeddings (num_prompts, embed_dim), in float32 on the CPU.

    Raises:
        InputError: If the tokenizer does not write the end-of-text token that the text tower reads.

    Example:
        >>> embed_prompts(model, tokenizer, ["a cat", "a dog"]).shape
        torch.Size([2, 24])
    """
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    embed = _embed_packed if family_of(model).packs_prompts else _embed_padded
    return functional.normalize(embed(model, tokenizer, prompts, batch_size, dtype), dim=-1)


def _embed_packed(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return text embeddings (num_prompts, embed_dim) of CLIP, several prompts to a row."""
    clip = cast(CLIPModel, model)
    config = cast(CLIPTextConfig, clip.config.text_config)
    context = min(tokenizer.model_max_length, config.max_position_embeddings)
    sequences = _tokenize(tokenizer, prompts, context, cast(int, config.eos_token_id))
    distinct = sorted(set(sequences))
    rows = pack_prompts(distinct, context)
    device = PartialState().device
    tower, projection = (
        deepcopy(clip.text_model).to(device, dtype).eval(),
        clip.text_projection.weight.to(device).float(),
    )
    tower.set_attn_implementation("sdpa")  # flash attention would not take the mask

    def embed(rows: Sequence[Row]) -> Tensor:
        return functional.linear(_last_hidden_states(tower, rows).float(), projection)

    embeds = _embed_together(embed, rows, batch_size)
    index = {sequence: index for index, sequence in enumerate(distinct)}
    return embeds[[index[sequence] for sequence in sequences]]


def _embed_padded(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str],
    batch_size: int,
    dtype: torch.dtype,
) -> Tensor:
    """Return text embeddings (num_prompts, embed_dim) of any family, one prompt to a row, padded as in pipelines."""
    family, tokenizer = family_of(model), deepcopy(tokenizer)  # the truncation would stay in it, and be saved with it
    context = min(tokenizer.model_max_length, model.config.text_config.max_position_embeddings)
    padding: dict[str, Any] = {"padding": "max_length" if family.prompt_length else True}
    padding |= {"max_length": family.prompt_length or context, "truncation": True, "return_tensors": "pt"}
    texts = [prompt.lower() for prompt in prompts] if family.lower_case else list(prompts)
    distinct = sorted(set(texts), key=lambda text: (len(text), text))  # short ones together need little padding
    device = PartialState().device
    tower = cast(nn.Module, deepcopy(TextTower(model))).to(device, dtype).eval()

    def embed(rows: Sequence[str]) -> Tensor:
        embeds: Tensor = tower(**tokenizer(rows, **padding).to(device))
        return embeds.float()

    embeds = _embed_together(embed, distinct, batch_size)
    index = {text: index for index, text in enumerate(distinct)}
    return embeds[[index[text] for text in texts]]


def _embed_together(embed: Callable[[Sequence[Any]], Tensor], rows: Sequence[Any], batch_size: int) -> Tensor:
    """Return what `embed` makes of all rows, on the CPU; each batch of them is embedded by one process."""
    batches = [rows[start : start + batch_size] for start in range(0, len(rows), batch_size)]
    state = PartialState()
    quiet = len(batches) == 1 or not state.is_main_process
    with state.split_between_processes(batches) as own:
        embeds = [embed(batch).cpu() for batch in tqdm(own, "Embedding prompts", unit="batch", disable=quiet)]
    return torch.cat(gather_object(embeds))


def pack_prompts(sequences: Sequence[TokenIds], length: int) -> list[Row]:
    """Pack tokenised prompts into rows of at most `length` tokens.

    The text tower is causal: the states of "a photo of a" are the same whatever follows. So a prompt adds to its row
    only what it does not share with the prompt before it.

    Args:
        sequences: Distinct and sorted, none longer than `length`.
        length: Tokens per row.

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
    """Return which token sees which: itself and, of the tokens before it, those of its own prompt.

    In depth-first order, a token has left the prompts of an earlier one as soon as one that is no deeper comes.

    Args:
        positions: The depths of the tokens, shape (rows, length).

    Returns:
        Booleans of shape (rows, length, length): [r, i, j] says whether token i of row r sees token j.

    Example:
        >>> ancestor_mask(torch.tensor([[0, 1, 1]])).int()
        tensor([[[1, 0, 0],
                 [1, 1, 0],
                 [1, 0, 1]]], dtype=torch.int32)
    """
    order = torch.arange(positions.shape[1], device=positions.device)
    no_deeper = positions[:, :, None] <= positions[:, None, :]  # (rows, i, j)
    left = (no_deeper & (order[:, None] > order)).cumsum(dim=1) > 0  # one between j and i, i included
    return ~left & (order[:, None] >= order)


def _last_hidden_states(tower: CLIPTextModel, rows: Sequence[Row]) -> Tensor:
    """Return the states (num_prompts, hidden_size) of the last token of each prompt."""
    ids = pad_sequence([torch.tensor(row.ids) for row in rows], batch_first=True).to(tower.device)
    positions = pad_sequence([torch.tensor(row.positions) for row in rows], batch_first=True).to(tower.device)
    mask = torch.where(ancestor_mask(positions), 0.0, -torch.inf).to(tower.dtype)  # is added to the attention scores
    hidden = tower(input_ids=ids, attention_mask=mask[:, None], position_ids=positions).last_hidden_state
    return torch.cat([states[row.ends] for states, row in zip(hidden, rows, strict=True)])


def _tokenize(
    tokenizer: PreTrainedTokenizerBase, prompts: Sequence[str], context: int, end_of_text: int
) -> list[TokenIds]:
    """Return the token ids of each prompt, up to the token whose state is its embedding: nothing sees what follows."""
    tokenizer = deepcopy(tokenizer)  # the truncation would stay in it, and be saved with it
    tokens = tokenizer(list(prompts), truncation=True, max_length=context, return_attention_mask=False)
    sequences = []
    for ids in tokens.input_ids:
        end = max(ids) if end_of_text == 2 else end_of_text  # 2: an old config; the text tower reads the highest id
        if end not in ids:
            raise InputError(f"The tokenizer does not write the end-of-text token of the text tower, {end_of_text}.")
        sequences.append(tuple(ids[: ids.index(end) + 1]))
    return sequences


def _shared_length(first: TokenIds, second: TokenIds) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((index for index, (left, right) in pairs if left != right), min(len(first), len(second)))
