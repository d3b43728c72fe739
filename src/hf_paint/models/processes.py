"""Share the work of embedding prompts between distributed processes, all of which must call these functions."""

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
    """Return whether this process is the one on its node that does work once per node, like writing a cache."""
    return bool(PartialState().is_local_main_process)


def agree(condition: bool) -> bool:
    """Return whether the condition is true in all processes."""
    return all(gather_object([condition]))


def embed_batches(embed: Callable[[Batch], Tensor], batches: Sequence[Batch]) -> Tensor:
    """Embed batches, each in one of the processes, and return all embeddings on the CPU, in order."""
    state = PartialState()
    is_quiet = len(batches) == 1 or not state.is_main_process
    with state.split_between_processes(batches) as own:
        embeds = [embed(batch).cpu() for batch in tqdm(own, "Embedding prompts", unit="batch", disable=is_quiet)]
    return torch.cat(gather_object(embeds))
