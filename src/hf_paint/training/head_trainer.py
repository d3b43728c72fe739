"""`HeadTrainer`: the linear classifier of WiSE-FT, trained on image embeddings that are computed once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.models.classifier import ClassificationHead
from hf_paint.training.base_trainer import BaseTrainer
from hf_paint.training.training_args import PaintTrainingArguments


class HeadTrainer(BaseTrainer):
    """Train a classification head on the embeddings of a frozen image tower (WiSE-FT, Section 3).

    `Evaluator.embed` computes the embeddings once, without augmentation, so a step is one matrix product. Optimization
    and arguments are the same as in `PaintTrainer`.

    Args:
        head: The head, trained in place.
        args: The training arguments.
        image_embeds: shape (num_images, embed_dim), the embeddings of the train split.
        labels: shape (num_images,), class indices.
        callbacks: More callbacks.

    Raises:
        InputError: If the shapes of head, embeddings and labels do not match.

    Example:
        >>> head = ClassificationHead(torch.eye(2), ["cat", "dog"])
        >>> args = PaintTrainingArguments(output_dir=tmp_path, max_steps=2, warmup_steps=1, use_cpu=True)
        >>> trainer = HeadTrainer(head, args, image_embeds=torch.eye(2), labels=torch.tensor([1, 0]))
        >>> trainer.train().global_step
        2
    """

    model: ClassificationHead

    def __init__(
        self,
        head: ClassificationHead,
        args: PaintTrainingArguments,
        *,
        image_embeds: Tensor,
        labels: Tensor,
        callbacks: Sequence[TrainerCallback] = (),
    ) -> None:
        if image_embeds.shape != (len(labels), head.weight.shape[1]):
            raise InputError(
                f"The head takes embeddings of {head.weight.shape[1]} numbers, one for each of the {len(labels)} "
                f"labels; got the shape {tuple(image_embeds.shape)}."
            )
        dataset = _EmbeddedImages(image_embeds, labels)
        super().__init__(head, args, data_collator=_identity, train_dataset=dataset, callbacks=[*callbacks])

    def features(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits (batch, num_classes)."""
        logits: Tensor = model(inputs["image_embeds"])
        return logits


class _EmbeddedImages(Dataset[dict[str, Tensor]]):
    """Image embeddings and labels, read a batch at a time."""

    def __init__(self, image_embeds: Tensor, labels: Tensor) -> None:
        self.image_embeds, self.labels = image_embeds, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image_embeds": self.image_embeds[index], "labels": self.labels[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        return {"image_embeds": self.image_embeds[rows], "labels": self.labels[rows]}


def _identity(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """Collate: `__getitems__` has already read a whole batch."""
    return batch
