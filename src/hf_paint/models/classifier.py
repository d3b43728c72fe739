"""An image tower with a classification head that is trained too (WiSE-FT, Section 3), and the files of the two."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, cast

import torch
from PIL.Image import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.errors import InputError
from hf_paint.models.heads import ZeroShotHead
from hf_paint.models.loading import load_clip
from hf_paint.models.towers import ImageTower, ImageTowerOutput, image_tower, image_tower_weights
from hf_paint.repositories import fetch
from hf_paint.weights.folders import HEAD_CONFIG
from hf_paint.weights.headers import HEAD, HEAD_WEIGHT


class ClassificationHead(nn.Module):
    """A linear classifier of unit image embeddings, without a bias; the logit scale is part of its weight.

    Args:
        weight: shape (num_classes, embed_dim).
        class_names: The class of each row.
        templates: The prompts that the rows were made of before they were trained.
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
    def from_zero_shot(cls, head: ZeroShotHead, class_names: Sequence[str], **options: Any) -> Self:
        """Return the head with which training starts: the text embeddings, times the logit scale."""
        return cls(head.logit_scale.cpu() * head.weight.cpu(), class_names, **options)

    @classmethod
    def load(cls, folder: str | Path, *, revision: str = "main") -> Self:
        """Read a head, in float32, from a folder or the Hub.

        Raises:
            InputError: If there is none, or it cannot be fetched.
        """
        weight, config = (fetch(folder, name, revision, optional=True) for name in (HEAD, HEAD_CONFIG))
        if weight is None or config is None:
            raise InputError(
                f"'{folder}' has no {HEAD} with its {HEAD_CONFIG}: no head was trained with it (`train_head: true`)."
            )
        said = json.loads(config.read_text(encoding="utf-8"))
        keys = {key: said[key] for key in ("class_names", "templates", "task")}
        return cls(load_file(weight)[HEAD_WEIGHT].float(), **keys)

    def save(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Write the head beside the model of a folder."""
        weight = self.weight.detach().cpu().to(dtype).contiguous()
        save_file({HEAD_WEIGHT: weight}, Path(folder) / HEAD, metadata={"format": "pt"})
        config: dict[str, Any] = {"task": self.task, "class_names": self.class_names, "templates": self.templates}
        config |= {"normalize_image_embeds": True, "logit_scale": "part of the weight"}
        (Path(folder) / HEAD_CONFIG).write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", "utf-8")

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return logits (batch, num_classes), in float32, of un-normalised image embeddings (batch, embed_dim)."""
        with torch.autocast(image_embeds.device.type, enabled=False):  # bfloat16 has steps of 0.1 at a logit of 30
            return functional.normalize(image_embeds.float(), dim=-1) @ self.weight.T


@dataclass
class ClassifierOutput(ImageTowerOutput):
    """What an image tower returns, and the logits (batch, num_classes) of its head."""

    logits: Tensor | None = None


class ImageClassifier(ImageTower):
    """An image tower that calls a classification head itself, so that data parallelism sees the head's gradients.

    To the tensors of the tower, which keep their names, the head adds `head.weight`.

    Args:
        model: The model whose image tower it is.
        head: The head.
    """

    def __init__(self, model: PreTrainedModel, head: ClassificationHead) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, *args: Any, **kwargs: Any) -> ClassifierOutput:
        """Return what the image tower returns, and the logits."""
        image_embeds = super().forward(*args, **kwargs).image_embeds
        return ClassifierOutput(image_embeds=image_embeds, logits=self.head(image_embeds))


def image_classifier(model: PreTrainedModel, head: ClassificationHead) -> ImageClassifier:
    """Return the image tower of a model with a head; it shares the parameters of both.

    Example:
        >>> head = ClassificationHead(torch.ones(2, 24), ["cat", "dog"])
        >>> image_classifier(model, head)(pixel_values=torch.zeros(3, 3, 32, 32)).logits.shape
        torch.Size([3, 2])
    """
    return ImageClassifier(model, head)


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A model with a classification head, as `load_classifier` returns it: on the CPU, until it is moved.

    Attributes:
        model: The model; all of it, so that new classes can still be given by name.
        processor: Its processor.
        head: The head, with its `class_names`.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    head: ClassificationHead

    @torch.inference_mode()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return logits (batch, num_classes) of pixel values (batch, 3, height, width), of the processor."""
        outputs = cast(Any, self.model).get_image_features(pixel_values=pixel_values)
        return cast(Tensor, self.head(outputs.pooler_output))

    def to(self, device: str | torch.device) -> Self:
        """Move model and head to a device."""
        cast(nn.Module, self.model).to(device)
        self.head.to(device)
        return self

    def classify(self, images: Image | Sequence[Image]) -> list[str]:
        """Return the class name of each image."""
        pixel_values = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        logits = self(pixel_values.to(self.model.device, self.model.dtype))
        return [self.head.class_names[index] for index in logits.argmax(dim=-1).tolist()]


def load_classifier(name_or_path: str | Path, *, revision: str = "main") -> Classifier:
    """Load a model that was fine-tuned with `train_head: true`, and its classification head, in float32.

    Args:
        name_or_path: A folder, such as `patched` in a run folder, or an id on the Hub.
        revision: A branch, tag or commit on the Hub, such as `alpha-0.50`.

    Raises:
        InputError: If there is no model, or no head beside it.

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
    """Say whether a trained head lies beside a model in a folder or on the Hub."""
    return fetch(name_or_path, HEAD_CONFIG, revision, optional=True) is not None


def tower_of(model: PreTrainedModel, head: ClassificationHead | None) -> ImageTower:
    """Return the image tower of a model, with a head where one is trained; it shares the parameters of both."""
    return image_tower(model) if head is None else image_classifier(model, head)


def weights_of(model: PreTrainedModel, head: ClassificationHead | None) -> dict[str, Tensor]:
    """Return the weights of the image tower of a model, with those of a head where one is trained; none is copied."""
    weights = image_tower_weights(model)
    return weights if head is None else weights | {HEAD_WEIGHT: head.weight.detach()}
