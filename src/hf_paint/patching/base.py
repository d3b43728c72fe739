"""What a run starts from: the model that is patched, and the arguments of a training."""

from copy import copy, deepcopy
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from torch import nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.models.loading import load_clip
from hf_paint.patching.result import PatchOptions
from hf_paint.training_args import PaintTrainingArguments


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


def arguments_for(args: PaintTrainingArguments, folder: Path, **others: Any) -> PaintTrainingArguments:
    """Return the same training arguments with another output folder, and with others that are given."""
    changed = copy(args)
    values = {"output_dir": str(folder), **others}
    for name, value in values.items():
        setattr(changed, name, value)
    changed._given = args._given | values
    return changed


def accelerator_for(args: PaintTrainingArguments) -> Accelerator:
    """Return what spreads evaluations over processes.

    All accelerators of a process share one state, and trainers that come later refuse one in another precision.
    """
    return Accelerator(cpu=args.use_cpu, mixed_precision=args.mixed_precision)
