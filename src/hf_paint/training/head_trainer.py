"""`HeadTrainer`, which trains the linear classifier of WiSE-FT on precomputed image embeddings."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset
from transformers import TrainingArguments

from hf_paint.errors import InputError
from hf_paint.models.classifier import ClassificationHead
from hf_paint.training.base_trainer import BaseTrainer
from hf_paint.training.callbacks import CallbackLike, made, with_metric
from hf_paint.training.training_args import PaintTrainingArguments


class HeadTrainer(BaseTrainer):
    """Train a classification head on the embeddings of a frozen image tower (WiSE-FT, Section 3).

    `Evaluator.embed` computes the embeddings once, without augmentation, so each step is a single matrix product. The
    optimization and training arguments are the same as in `PaintTrainer`.

    Args:
        head: Classification head, trained in place.
        args: Training arguments.
        image_embeds: Embeddings of the train split, shape (num_images, embed_dim).
        labels: Class indices, shape (num_images,), or (num_images, max_classes) for several classes per image.
        callbacks: Additional callbacks, or their classes.

    Raises:
        InputError: If the shapes of the head, embeddings and labels do not match.

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
        args: TrainingArguments,
        *,
        image_embeds: Tensor,
        labels: Tensor,
        callbacks: Sequence[CallbackLike] = (),
    ) -> None:
        if image_embeds.shape != (len(labels), head.weight.shape[1]):
            raise InputError(
                f"`image_embeds` must have shape {(len(labels), head.weight.shape[1])}, one row per label and one "
                f"column per input of the head; got {tuple(image_embeds.shape)}."
            )
        dataset = _EmbeddedImages(image_embeds, labels)
        callbacks = made(callbacks)
        own = with_metric(PaintTrainingArguments.of(args), callbacks)
        without_smoothing = own.with_changes(label_smoothing_factor=0.0)  # whose check needs a model with a config
        super().__init__(head, without_smoothing, data_collator=_identity, train_dataset=dataset, callbacks=callbacks)
        self.args = own

    def features(self, model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        """Return the logits (batch, num_classes)."""
        logits: Tensor = model(inputs["image_embeds"])
        return logits


class _EmbeddedImages(Dataset[dict[str, Tensor]]):
    """Dataset of image embeddings and labels that returns a whole batch at a time."""

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
    """Return the batch unchanged; `__getitems__` has already collated it."""
    return batch
