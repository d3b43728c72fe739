"""Image towers with a trained classification head (WiSE-FT, Section 3), and how the head is stored."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from PIL.Image import Image
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel, ProcessorMixin

from hf_paint.data.pixel_cache import default_cache_dir
from hf_paint.documents.reading import read_json
from hf_paint.errors import InputError, one_line
from hf_paint.files import write_json
from hf_paint.models.given import model_of
from hf_paint.models.heads import GroupedHead, ZeroShotHead
from hf_paint.models.loading import load_clip
from hf_paint.models.task_file import Rows, find_task, read_tasks
from hf_paint.models.towers import (
    ImageTower,
    ImageTowerOutput,
    dual_encoder,
    image_tower,
    image_tower_weights,
    move,
)
from hf_paint.models.zero_shot import build_listed_head
from hf_paint.repositories import fetch
from hf_paint.weights.folders import HEAD_CONFIG, TASKS, classes_of_head
from hf_paint.weights.headers import HEAD, HEAD_WEIGHT


class ClassificationHead(nn.Module):
    """A linear classifier on normalised image embeddings, without a bias. The logit scale is part of the weight.

    Args:
        weight: shape (num_classes, embed_dim).
        class_names: Class name of each row.
        templates: Prompt templates that the head was initialised from.
        task: Name of the task.

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
            raise InputError(f"The head has {len(weight)} rows but {len(class_names)} class names.")
        self.weight: nn.Parameter = nn.Parameter(weight)
        self.class_names: tuple[str, ...] = tuple(class_names)
        self.templates: tuple[str, ...] = tuple(templates)
        self.task: str = task

    @classmethod
    def from_zero_shot(
        cls, head: ZeroShotHead, class_names: Sequence[str], *, templates: Sequence[str] = (), task: str = ""
    ) -> Self:
        """Initialise a head for training with the zero-shot head's text embeddings times the logit scale."""
        weight = head.logit_scale.cpu() * head.weight.cpu()
        return cls(weight, class_names, templates=templates, task=task)

    @classmethod
    def load(cls, folder: str | Path, *, revision: str = "main") -> Self:
        """Load a head in float32 from a folder or the Hub.

        Raises:
            InputError: If the model has no head, or the head cannot be downloaded.
        """
        weight, config = (fetch(folder, name, revision, optional=True) for name in (HEAD, HEAD_CONFIG))
        if weight is None or config is None:
            raise InputError(
                f"'{folder}' has no classification head ({HEAD} and {HEAD_CONFIG}). Train one with `train_head: true`."
            )
        names, values = classes_of_head(config) or [], read_json(config) or {}
        task, templates = values.get("task"), values.get("templates")
        if not isinstance(task, str) or not isinstance(templates, list):
            raise InputError(f"{config} is damaged: it has no `task` or no list of `templates`.")
        try:
            stored = load_file(weight)[HEAD_WEIGHT].float()
        except (SafetensorError, KeyError) as error:
            raise InputError(f"{weight} is damaged: {one_line(error)}.") from error
        return cls(stored, names, templates=templates, task=task)

    def save(self, folder: str | Path, *, dtype: torch.dtype = torch.float32) -> None:
        """Save the head in a folder, next to the model."""
        weight = self.weight.detach().cpu().to(dtype).contiguous()
        save_file({HEAD_WEIGHT: weight}, Path(folder) / HEAD, metadata={"format": "pt"})
        config = {"task": self.task, "class_names": self.class_names, "templates": self.templates}
        facts = {"normalize_image_embeds": True, "logit_scale": "part of the weight"}
        write_json(Path(folder) / HEAD_CONFIG, config | facts)

    def forward(self, image_embeds: Tensor) -> Tensor:
        """Return float32 logits (batch, num_classes) for un-normalised image embeddings (batch, embed_dim)."""
        with torch.autocast(image_embeds.device.type, enabled=False):  # bfloat16 has steps of 0.1 at a logit of 30
            return functional.normalize(image_embeds.float(), dim=-1) @ self.weight.T


@dataclass
class ClassifierOutput(ImageTowerOutput):
    """Image embeddings, and the logits (batch, num_classes) of the head."""

    logits: Tensor | None = None


class ImageClassifier(ImageTower):
    """An image tower that includes a classification head, so that data parallelism also synchronises its gradients.

    The tensor names of the tower do not change; the head adds `head.weight`.

    Args:
        model: The whole model, which contains the image tower.
        head: Classification head.
    """

    def __init__(self, model: PreTrainedModel, head: ClassificationHead) -> None:
        super().__init__(model)
        self.head = head

    def forward(self, pixel_values: Tensor, **kwargs: object) -> ClassifierOutput:
        """Return embeddings and logits for pixels (batch, 3, height, width)."""
        image_embeds = super().forward(pixel_values, **kwargs).image_embeds
        return ClassifierOutput(image_embeds=image_embeds, logits=self.head(image_embeds))


def image_classifier(model: PreTrainedModel, head: ClassificationHead) -> ImageClassifier:
    """Combine the image tower of a model with a head; parameters are shared with both.

    Example:
        >>> head = ClassificationHead(torch.ones(2, 24), ["cat", "dog"])
        >>> image_classifier(model, head)(pixel_values=torch.zeros(3, 3, 32, 32)).logits.shape
        torch.Size([3, 2])
    """
    return ImageClassifier(model, head)


@dataclass(frozen=True, slots=True, eq=False)
class Classifier:
    """A model with the head of one task, as returned by `load_classifier`; initially on the CPU.

    Attributes:
        model: The whole model, including the text tower, which can still build heads for new classes.
        processor: Processor of the model.
        head: Trained head, or zero-shot head.
        class_names: Class names, in the order of the logits.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    head: ClassificationHead | ZeroShotHead
    class_names: tuple[str, ...]

    @torch.inference_mode()
    def __call__(self, pixel_values: Tensor) -> Tensor:
        """Return logits (batch, num_classes) for the processor's pixel values (batch, 3, height, width)."""
        features = dual_encoder(self.model).get_image_features(self.model, pixel_values=pixel_values)
        logits: Tensor = self.head(features.pooler_output)
        return logits

    def to(self, device: str | torch.device) -> Self:
        """Move the model and head to a device."""
        move(self.model, device)
        self.head.to(device)
        return self

    def classify(self, images: Image | Sequence[Image]) -> list[str]:
        """Return the predicted class name for each image."""
        pixel_values = self.processor.image_processor(images, return_tensors="pt")["pixel_values"]
        logits = self(pixel_values.to(self.model.device, self.model.dtype))
        return [self.class_names[index] for index in logits.argmax(dim=-1).tolist()]


def load_classifier(name_or_path: str | Path, task: str | None = None, *, revision: str = "main") -> Classifier:
    """Load a patched model with the head of one of its tasks, in float32.

    The head is the one that the accuracies in the model card were measured with: the trained head of a model
    fine-tuned with `train_head: true`, for tasks that use it, and otherwise the zero-shot head, which the model's own
    text tower builds from the class names and prompts in `tasks.json`.

    Args:
        name_or_path: Folder, run folder (for its patched model), Hub repository id or `id@revision`.
        task: Name of the task. By default, the task of the trained head or, without one, the only task.
        revision: Branch, tag or commit on the Hub, for instance `alpha-0.50`.

    Returns:
        The model with its processor, head and class names, on the CPU; called on pixel values, it returns logits.

    Raises:
        InputError: If the model does not exist, has no such task, or cannot be downloaded.

    Example:
        >>> classifier = load_classifier(classifier_folder)
        >>> classifier(torch.zeros(3, 3, 32, 32)).shape
        torch.Size([3, 2])
        >>> classifier.class_names
        ('cat', 'dog')
    """
    name = model_of(name_or_path)
    tasks = read_tasks(name, revision=revision)
    trained = ClassificationHead.load(name, revision=revision) if has_head(name, revision=revision) else None
    if trained is None and not tasks:
        raise InputError(
            f"'{name}' has no classification head ({HEAD} and {HEAD_CONFIG}) and no {TASKS}. Models patched by this "
            "version of hf_paint have one of the two; for any other model, use `build_zero_shot_head`."
        )
    if trained is not None and task in (None, trained.task):
        model, processor, _ = load_clip(name, revision=revision)
        return Classifier(model, processor, trained, trained.class_names)
    listed = find_task(tasks, task, f"'{name}'")
    model, processor, _ = load_clip(name, revision=revision)
    if listed.head_rows is None:
        head = build_listed_head(model, processor.tokenizer, listed, cache_dir=default_cache_dir())
    else:
        head = _rows_of(trained, listed.head_rows, name)
    return Classifier(model, processor, head, listed.class_names)


def _rows_of(trained: ClassificationHead | None, rows: Rows, name: str) -> GroupedHead:
    """Return the head of a task that shares some rows of the trained head."""
    if trained is None or max(map(max, rows)) >= len(trained.weight):
        raise InputError(f"The {TASKS} of '{name}' is damaged: it refers to rows that its trained head does not have.")
    return GroupedHead(trained.weight.detach(), torch.ones(()), torch.tensor(rows))


def has_head(name_or_path: str | Path, *, revision: str = "main") -> bool:
    """Return whether a model, in a folder or on the Hub, has a trained head."""
    return fetch(name_or_path, HEAD_CONFIG, revision, optional=True) is not None


def tower_of(model: PreTrainedModel, head: ClassificationHead | None) -> ImageTower:
    """Return the image tower of a model, including `head` if given; parameters are shared."""
    return image_tower(model) if head is None else image_classifier(model, head)


def weights_of(model: PreTrainedModel, head: ClassificationHead | None) -> dict[str, Tensor]:
    """Return the image tower's weights, including those of `head` if given, without copying them."""
    weights = image_tower_weights(model)
    return weights if head is None else weights | {HEAD_WEIGHT: head.weight.detach()}
