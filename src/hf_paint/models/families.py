"""Model families that can be patched, and how they differ. Importing this module does not import torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Properties of a model family.

    In all families, the logit of an image and a text is the cosine similarity of their embeddings, multiplied by a
    scale. Models trained with a sigmoid loss also add `logit_bias`, which heads ignore: it is the same for all
    classes, so it neither changes their ranking nor affects the softmax that hf_paint trains with.

    Attributes:
        name: Name used in papers.
        model: Name of the model class in transformers.
        processor: Name of the processor class in transformers.
        prompt_length: Length to which prompts are padded, for text towers that attend to padding. With None, they are
            padded to the longest prompt in the batch.
        lower_case: Whether the text tower was trained only on lower-case text.
        temperature: Whether similarities are divided by `temperature` rather than multiplied by `exp(logit_scale)`.
    """

    name: str
    model: str
    processor: str
    prompt_length: int | None = None
    lower_case: bool = False
    temperature: bool = False

    @property
    def any_model(self) -> str:
        """`"a CLIP model"`, `"an ALIGN model"`: for use in messages."""
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
"""`model_type` in the config -> family. SigLIP 2 checkpoints with a fixed resolution are also `siglip`."""

_REASONS = {
    "siglip2": "its images have no fixed resolution (NaFlex) and come with an attention mask and a shape in patches, "
    "which hf_paint does not support. SigLIP 2 models with a fixed resolution, like google/siglip2-base-patch16-224, "
    "are siglip models and can be patched",
    "altclip": "transformers renames its tensors between loading and saving, so files from before and after "
    "fine-tuning do not match",
    "blip": "its checkpoints contain a captioner or a matcher, not the two projections of BlipModel",
    "blip-2": "its `get_image_features` and `get_text_features` do not return one embedding per image and text",
    "clipseg": "saving it as a model with two towers would lose its decoder",
    "videoprism": "its image tower takes videos",
}
"""`model_type` -> why these models cannot be patched, if the reason is not apparent from the model class."""


def family_of(model: "PreTrainedModel") -> Family:
    """Return the family of a model.

    Raises:
        InputError: If the model does not belong to a supported family.

    Example:
        >>> family_of(model).processor
        'CLIPProcessor'
    """
    return find_family(model.config, type(model).__name__)


def find_family(config: "PreTrainedConfig", name: str) -> Family:
    """Return the family of a model, given its config.

    Args:
        config: Config of the model.
        name: What to call the model in messages.

    Raises:
        InputError: If the model does not belong to a supported family; the message explains why.
    """
    model_type = str(config.model_type)
    if model_type not in FAMILIES:
        raise InputError(
            f"'{name}' is a {model_type} model, which cannot be patched: {_reason(config)}. Supported model types: "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def logit_scale(model: "PreTrainedModel") -> "Tensor":
    """Return the scale that turns cosine similarities into logits, shape (), in float32 on the CPU.

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
    """Return why models of an unsupported type cannot be patched."""
    from transformers import MODEL_MAPPING

    if config.model_type in _REASONS:
        return _REASONS[config.model_type]
    kind = MODEL_MAPPING.get(type(config), None)
    needed = ("get_image_features", "get_text_features")
    missing = [f"`{method}`" for method in needed if not hasattr(kind, method)]
    return f"it has no {' and no '.join(missing)}" if missing else "hf_paint does not support its architecture"
