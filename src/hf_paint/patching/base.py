"""What a run starts from: the model that is patched, and the arguments of a training."""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.models.loading import load_clip
from hf_paint.patching.options import PatchOptions


Weights = Mapping[str, Tensor]


def load_base(
    model: str | PreTrainedModel, options: PatchOptions
) -> tuple[PreTrainedModel, ProcessorMixin, torch.dtype]:
    """Return the base in float32 on the CPU, its processor and its dtype; a model in memory is copied.

    Raises:
        InputError: If it cannot be read, or has no processor.
    """
    if isinstance(model, str):
        name = str(Path(model).expanduser()) if model.startswith("~") else model
        return load_clip(name, revision=options.model_revision)
    processor = options.processor
    if processor is None:
        if not model.name_or_path:
            raise InputError(
                "A model that was not read from anywhere needs its processor: PatchOptions(processor=...)."
            )
        processor = load_clip(model.name_or_path)[1]
    copied = cast(nn.Module, deepcopy(model)).to("cpu", torch.float32).eval()
    return cast(PreTrainedModel, copied), processor, model.dtype
