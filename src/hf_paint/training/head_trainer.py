"""`HeadTrainer`: the linear classifier of WiSE-FT, a head trained on image embeddings that are computed once."""

from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import Dataset
from transformers import TrainerCallback

from hf_paint.errors import InputError
from hf_paint.models.classifier import ClassificationHead
from hf_paint.training.base_trainer import PaperTrainer
from hf_paint.training.training_args import PaintTrainingArguments


class HeadTrainer(PaperTrainer):
    """Train a classification head alone, while the image tower is frozen (WiSE-FT, Section 3).

    A step is a matrix product: `Evaluator.embed` has seen each image once, without augmentation. The optimization is
    that of `PaintTrainer`, and so are the arguments.

    Args:
        head: The head, which is trained in place.
        args: The training arguments.
        image_embeds: shape (num_images, embed_dim), the embeddings of the train split.
        labels: shape (num_images,), class indices.
        callbacks: More callbacks.

    Raises:
        InputError: If the shapes do not fit together.

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
        super().__init__(head, args, data_collator=_keep, train_dataset=dataset, callbacks=[*callbacks])
        self.model_accepts_loss_kwargs = True  # the loss counts the images of the step

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return what the batch adds to the mean cross-entropy over the step."""
        logits = model(inputs["image_embeds"])
        loss = functional.cross_entropy(logits, inputs["labels"], label_smoothing=self.args.label_smoothing_factor)
        loss = self.share_of_step(loss, inputs, num_items_in_batch)
        return (loss, {"logits": logits}) if return_outputs else loss


class _EmbeddedImages(Dataset[dict[str, Any]]):
    """Image embeddings and labels, which are read a batch at a time."""

    def __init__(self, image_embeds: Tensor, labels: Tensor) -> None:
        self.image_embeds, self.labels = image_embeds, labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"image_embeds": self.image_embeds[index], "labels": self.labels[index]}

    def __getitems__(self, indices: list[int]) -> dict[str, Tensor]:
        rows = torch.tensor(indices)
        return {"image_embeds": self.image_embeds[rows], "labels": self.labels[rows]}


def _keep(batch: Any) -> dict[str, Tensor]:
    """Leave a batch as `__getitems__` has read it."""
    return cast(dict[str, Tensor], batch)
