"""A CLIP model in training: the module to optimize, and saving the complete model."""

from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.adapters.lora import add_lora, save_lora
from hf_paint.errors import InputError
from hf_paint.evaluation.given_tasks import EvaluationSets, prepare_given
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.models.classifier import ClassificationHead, tower_of
from hf_paint.models.loading import save_clip
from hf_paint.training.training_args import PaintTrainingArguments
from hf_paint.weights.layers import IMAGE_TOWER
from hf_paint.weights.manifest import MANIFEST


if TYPE_CHECKING:
    from peft import PeftModel


class TrainedClip:
    """A CLIP model whose image tower is trained alone, with a classification head, or through a LoRA adapter.

    Attributes:
        model: CLIP model, which shares its image tower parameters with `tower`.
        processor: Processor of the model.
        head: Classification head that is trained with the image tower, if any.
        adapter: Image tower with a LoRA adapter, if one is trained.
        tower: Module to optimize.

    Raises:
        InputError: If the image tower does not support the training arguments.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: ProcessorMixin,
        head: ClassificationHead | None,
        args: PaintTrainingArguments,
    ) -> None:
        tower = tower_of(model, head).train()
        if args.gradient_checkpointing and not any(hasattr(m, "gradient_checkpointing") for m in tower.modules()):
            raise InputError("This image tower does not support `gradient_checkpointing`. Remove it.")
        # otherwise transformers logs that it copies these from the tokenizer; the image tower does not use them
        for token in ("bos_token_id", "eos_token_id", "pad_token_id"):
            setattr(tower.config, token, getattr(processor.tokenizer, token))
        self.model: PreTrainedModel = model
        self.processor: ProcessorMixin = processor
        self.head: ClassificationHead | None = head
        self.adapter: PeftModel | None = add_lora(tower, args) if args.use_peft else None
        self.tower: nn.Module = tower if self.adapter is None else self.adapter

    def prepare(self, given: EvaluationSets, split: str) -> list[PreparedTask]:
        """Prepare a split of each task; if a head is trained, it is used for the train task."""
        prepared = prepare_given(given, self.model, self.processor, splits=(split,))
        head = self.head
        if head is None:
            return prepared
        return [task.with_rows_of(head.class_names) if task.task.name == head.task else task for task in prepared]

    def save(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save a complete CLIP repository with the trained image tower, and the trained head if there is one.

        Args:
            folder: Output folder.
            state_dict: Gathered weights of the image tower, if it is sharded.
        """
        tower = self.tower if self.adapter is None else deepcopy(self.adapter).merge_and_unload()
        clip, trained = self.model.state_dict(), state_dict or tower.state_dict()
        weights = {name: tensor for name, tensor in clip.items() if not name.startswith(IMAGE_TOWER)}
        weights |= {name: tensor for name, tensor in trained.items() if name.startswith(IMAGE_TOWER)}
        (folder / MANIFEST).unlink(missing_ok=True)  # of what was saved here before
        save_clip(self.model, self.processor, folder, state_dict=weights)
        if self.head is not None:
            self.head.save(folder)

    def save_checkpoint(self, folder: Path, state_dict: dict[str, Tensor] | None = None) -> None:
        """Save the adapter if one is trained, or a complete CLIP repository otherwise."""
        if self.adapter is None:
            self.save(folder, state_dict)
        else:
            save_lora(self.adapter, folder)

    def load_head(self, checkpoint: str) -> None:
        """Load the head from a checkpoint, if a head is trained."""
        if self.head is not None:
            self.head.load_state_dict(ClassificationHead.load(checkpoint).state_dict())
