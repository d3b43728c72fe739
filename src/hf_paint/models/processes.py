"""The processes of a launcher: they share the work on prompts, and all of them must call these functions."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from tqdm.auto import tqdm


Batch = TypeVar("Batch")


def own_device() -> torch.device:
    """Return the device of this process."""
    device: torch.device = PartialState().device
    return device


def is_first_on_node() -> bool:
    """Return whether this process does the work of one process per node, such as writing to a cache."""
    return bool(PartialState().is_local_main_process)


def agree(condition: bool) -> bool:
    """Return whether a condition holds in all processes."""
    return all(gather_object([condition]))


def embed_batches(embed: Callable[[Batch], Tensor], batches: Sequence[Batch]) -> Tensor:
    """Return the embeddings of all batches, in order and on the CPU; each batch is embedded by one process."""
    state = PartialState()
    is_quiet = len(batches) == 1 or not state.is_main_process
    with state.split_between_processes(batches) as own:
        embeds = [embed(batch).cpu() for batch in tqdm(own, "Embedding prompts", unit="batch", disable=is_quiet)]
    return torch.cat(gather_object(embeds))
