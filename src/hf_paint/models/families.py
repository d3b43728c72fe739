"""The families of models that can be patched: their classes in transformers and their peculiarities. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """The peculiarities of a family of models.

    All families compare an image with a text by the cosine similarity of their embeddings, times a factor. Models
    trained with a sigmoid also add `logit_bias`. Heads ignore it: it is the same for all classes of an image, so it
    does not change the ranking and cancels in the softmax over classes that hf_paint trains with.

    Attributes:
        name: The name in the papers.
        model: The class of the model in transformers.
        processor: The class of its processor.
        prompt_length: The padded length of prompts, for text towers that attend to the padding; None pads to the
            longest prompt of a batch.
        lower_case: Whether the text tower was trained on lower-case texts only.
        temperature: Whether similarities are divided by `temperature` instead of multiplied by `exp(logit_scale)`.
    """

    name: str
    model: str
    processor: str
    prompt_length: int | None = None
    lower_case: bool = False
    temperature: bool = False

    @property
    def any_model(self) -> str:
        """The name with an article, for sentences."""
        return f"{'an' if self.name[0] in 'AEIO' else 'a'} {self.name} model"


FAMILIES = {
    "clip": Family(name="CLIP", model="CLIPModel", processor="CLIPProcessor"),
    "metaclip_2": Family(name="MetaCLIP 2", model="MetaClip2Model", processor="CLIPProcessor"),
    "siglip": Family(
        name="SigLIP", model="SiglipModel", processor="SiglipProcessor", prompt_length=64, lower_case=True
    ),
    "align": Family(name="ALIGN", model="AlignModel", processor="AlignProcessor", temperature=True),
    "chinese_clip": Family(name="Chinese-CLIP", model="ChineseCLIPModel", processor="ChineseCLIPProcessor"),
}
"""`model_type` of a config -> its family. SigLIP 2 checkpoints of a fixed resolution are `siglip` too."""

_REASONS = {
    "siglip2": "its images have no fixed resolution (NaFlex) and come with an attention mask and a shape in patches, "
    "which hf_paint does not support. SigLIP 2 models of a fixed resolution, such as google/siglip2-base-patch16-224, "
    "are siglip models and can be patched",
    "altclip": "transformers renames its tensors between loading and saving, so the files before and after "
    "fine-tuning do not match",
    "blip": "its checkpoints contain a captioner or a matcher, not the two projections of BlipModel",
    "blip-2": "it has no `get_image_features` and `get_text_features` with one embedding for an image and a text",
    "clipseg": "saving it as a model with two towers would lose its decoder",
    "videoprism": "its image tower takes videos",
}
"""`model_type` -> the reason why it cannot be patched, if the class of the model does not reveal it."""


def family_of(model: "PreTrainedModel") -> Family:
    """Return the family of a model.

    Raises:
        InputError: If it belongs to no family.

    Example:
        >>> family_of(model).processor
        'CLIPProcessor'
    """
    return find_family(model.config, type(model).__name__)


def find_family(config: "PreTrainedConfig", name: str) -> Family:
    """Return the family of a model by its config.

    Args:
        config: The config of the model.
        name: The name of the model in messages.

    Raises:
        InputError: If it belongs to no family; the message gives the reason.
    """
    model_type = str(config.model_type)
    if model_type not in FAMILIES:
        raise InputError(
            f"'{name}' is a {model_type} model, which cannot be patched: {_reason(config)}. These can be: "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def logit_scale(model: "PreTrainedModel") -> "Tensor":
    """Return the factor, shape (), between cosine similarities and logits, in float32 on the CPU.

    Example:
        >>> logit_scale(model)
        tensor(14.2849)
    """
    if family_of(model).temperature:
        scale = 1 / model.get_parameter("temperature").float()
    else:
        scale = model.get_parameter("logit_scale").float().exp()
    return scale.detach().reshape(()).cpu().clone()


def _reason(config: "PreTrainedConfig") -> str:
    """Return the reason why a model of no family cannot be patched."""
    from transformers import MODEL_MAPPING

    if config.model_type in _REASONS:
        return _REASONS[config.model_type]
    kind = MODEL_MAPPING.get(type(config), None)
    needed = ("get_image_features", "get_text_features")
    missing = [f"`{method}`" for method in needed if not hasattr(kind, method)]
    return f"it has no {' and no '.join(missing)}" if missing else "hf_paint has no description of its towers"
