"""An image tower with a trained classification head (WiSE-FT, Section 3), and the files of the head."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from PIL.Image import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.files import write_json
from hf_paint.models.heads import ZeroShotHead
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import (
    ImageTower,
    ImageTowerOutput,
    dual_encoder,
    image_tower,
    image_tower_weights,
    move,
)
from hf_paint.repositories import fetch
from hf_paint.weights.folders import HEAD_CONFIG
from hf_paint.weights.headers import HEAD, HEAD_WEIGHT


class ClassificationHead(nn.Module):
    """A linear classifier of unit image embeddings, without a bias; the logit scale is part of its weight.

    Args:
        weight: shape (num_classes, embed_dim).
        class_names: The class of each row.
        templates: The prompts that the rows were built from before training.
        task: The name of the task.

    Example:
        >>> head = ClassificationHead(100 * torch.eye(2), ["cat", "dog"])
        >>> head(torch.tensor([[3.0, 0.0]])).detach()
        tensor([[100.,   0.]])
    """

    def __init__(
        self, weight: Tensor, class_names: Sequence[str], *, templates: Sequence[str] = (), task: str = ""
    ) -> None:
        super().__init__()
        if len(weight) != len(class_names):
            raise InputError(f"The head has {len(weight)} rows and {len(class_names)} class names.")
        self.weight = nn.Parameter(weight)
        self.class_names, self.templates, self.task = tuple(class_names), tuple(templates), task

    @classmethod
    def from_zero_shot(
        cls, head: ZeroShotHead, class_names: Sequence[str], *, templates: Sequence[str] = (), task: str = ""
    ) -> Self:
        """Return the initial head of training: the text embeddings times the logit scale."""
        weight = head.logit_scale.cpu() * head.weight.cpu()
        return cls(weight, class_names, templates=templates, task=task)

    @classmethod
    def load(cls, folder: str | Path, *, revision: str = "main") -> Self:
        """Read a head, in float32, from a folder or the Hub.

        Raises:
            InputError: If there is no head, or it cannot be downloaded.
        """
        weight, config = (fetch(folder, name, revision, optional=True) for name in (HEAD, HEAD_CONFIG))
        if weight is None or config is None:
            raise InputError(
                f"'{folder}' has no classification head ({HEAD} and {HEAD_CONFIG}). Train one with `train_head: true`."
            )
        values = json.loads(config.read_text(encoding="utf-8"))
        keys = {key: values[key] for key in ("class_names", "templates", "task")}
        return cls(load_file(weight)[HEAD_WEIGHT].float(), **keys)

    def save(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the head next to the model in a folder."""
        weight = self.weight.detach().cpu().to(dtype).contiguous()
        save_file({HEAD_WEIGHT: weight}, Path(folder) / HEAD, metadata={"format": "pt"})
        config = {"task": self.task, "class_names": self.class_names, "templates": self.templates}
        facts = {"normalize_image_embeds": True, "logit_scale": "part of the weight"}
        write_json(Path(folder) / HEAD_CONFIG, config | facts)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes), in float32, of un-normalised image embeddings (batch, embed_dim)."""
        with torch.autocast(image_embeds.device.type, enabled=False):  # bfloat16 has steps of 0.1 at a logit of 30
            return functional.normalize(image_embeds.float(), dim=-1) @ self.weight.T


@dataclass
class ClassifierOutput(ImageTowerOutput):
    """The output of an image tower, and the logits (batch, num_classes) of its head."""

    logits: Tensor | None = None


class ImageClassifier(ImageTower):
    """An image tower that calls a classification head itself, so that data parallelism sees the head's gradients.

    The tensors of the tower keep their names; the head adds `head.weight`.

    Args:
        model: The model that contains the image tower.
        head: The head.
    """

    def __init__(self, model: PreTrainedModel, head: ClassificationHead) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, pixel_values: Tensor, **kwargs: object) -> ClassifierOutput:
        """Return the embeddings and the logits of pixels (batch, 3, height, width)."""
        image_embeds = super().forward(pixel_values, **kwargs).image_embeds
        return ClassifierOutput(image_embeds=image_embeds, logits=self.head(image_embeds))


def image_classifier(model: PreTrainedModel, head: ClassificationHead) -> ImageClassifier:
    """Return the image tower of a model with a head, sharing the parameters of both.

    Example:
        >>> head = ClassificationHead(torch.ones(2, 24), ["cat", "dog"])
        >>> image_classifier(model, head)(pixel_values=torch.zeros(3, 3, 32, 32)).logits.shape
        torch.Size([3, 2])
    """
    return ImageClassifier(model, head)


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A model with a classification head, as returned by `load_classifier`; it is on the CPU until moved.

    Attributes:
        model: The whole model: its text tower can still build a head for new classes.
        processor: Its processor.
        head: The head, with its `class_names`.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    head: ClassificationHead

    @torch.inference_mode()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of the processor's pixel values (batch, 3, height, width)."""
        features = dual_encoder(self.model).get_image_features(self.model, pixel_values=pixel_values)
        logits: Tensor = self.head(features.pooler_output)
        return logits

    def to(self, device: str | torch.device) -> Self:
        """Move model and head to a device."""
        move(self.model, device)
        self.head.to(device)
        return self

    def classify(self, images: Image | Sequence[Image]) -> list[str]:
        """Return the class name of each image."""
        pixel_values = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        logits = self(pixel_values.to(self.model.device, self.model.dtype))
        return [self.head.class_names[index] for index in logits.argmax(dim=-1).tolist()]


def load_classifier(name_or_path: str | Path, *, revision: str = "main") -> Classifier:
    """Load a model fine-tuned with `train_head: true` and its classification head, in float32.

    Args:
        name_or_path: A folder, such as `patched` in a run folder, or an id on the Hub.
        revision: A branch, tag or commit on the Hub, such as `alpha-0.50`.

    Raises:
        InputError: If there is no model, the model has no head, or the download fails.

    Example:
        >>> classifier = load_classifier(classifier_folder)
        >>> classifier(torch.zeros(3, 3, 32, 32)).shape
        torch.Size([3, 2])
        >>> classifier.head.class_names
        ('cat', 'dog')
    """
    model, processor, _ = load_clip(str(name_or_path), revision=revision)
    return Classifier(model, processor, ClassificationHead.load(name_or_path, revision=revision))


def has_head(name_or_path: str | Path, *, revision: str = "main") -> bool:
    """Return whether a model in a folder or on the Hub has a trained head."""
    return fetch(name_or_path, HEAD_CONFIG, revision, optional=True) is not None


def tower_of(model: PreTrainedModel, head: ClassificationHead | None) -> ImageTower:
    """Return the image tower of a model, with its head if one is trained, sharing the parameters of both."""
    return image_tower(model) if head is None else image_classifier(model, head)


def weights_of(model: PreTrainedModel, head: ClassificationHead | None) -> dict[str, Tensor]:
    """Return the weights of the image tower of a model, and of its head if one is trained, without copying them."""
    weights = image_tower_weights(model)
    return weights if head is None else weights | {HEAD_WEIGHT: head.weight.detach()}
