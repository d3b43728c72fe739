"""What a run is asked to do, before anything is loaded."""

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from hf_paint.patching.recipe import Settings


@dataclass(frozen=True, kw_only=True, eq=False)
class Request(Settings):
    """The arguments of a patching function, with its tasks and its method looked up. `Recipe` has the base instead.

    Attributes:
        model: Model to patch: a Hub repository id, a folder, or a model in memory.
    """

    model: str | Path | PreTrainedModel
