"""The families of models that can be patched: how transformers calls them, and what each has of its own. No torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hf_paint.errors import InputError


if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a family of models has of its own.

    All of them compare an image with a text by the cosine similarity of their embeddings, times a factor. The models
    that were trained with a sigmoid also add `logit_bias`. It is the same for all classes of an image: it cancels in
    the softmax over classes with which an image tower is trained here, and changes no ranking, so heads go without.

    Attributes:
        name: What its papers call it.
        model: The class of the model in transformers.
        processor: The class of its processor.
        packs_prompts: Whether the text tower is CLIP's: causal, with the state of the end-of-text token as embedding,
            so that several prompts share a row (`hf_paint.prompts`). Otherwise they are padded.
        prompt_length: The length to which prompts are padded, where the text tower looks at the padding; None: the
            longest of a batch.
        lower_case: Whether the text tower only ever saw lower case.
        temperature: Whether similarities are divided by a `temperature`, not multiplied by `exp(logit_scale)`.
    """

    name: str
    model: str
    processor: str
    packs_prompts: bool = False
    prompt_length: int | None = None
    lower_case: bool = False
    temperature: bool = False

    @property
    def any_model(self) -> str:
        """One of its models, as a sentence says it."""
        return f"{'an' if self.name[0] in 'AEIO' else 'a'} {self.name} model"


FAMILIES = {
    "clip": Family(name="CLIP", model="CLIPModel", processor="CLIPProcessor", packs_prompts=True),
    "metaclip_2": Family(name="MetaCLIP 2", model="MetaClip2Model", processor="CLIPProcessor"),
    "siglip": Family(
        name="SigLIP", model="SiglipModel", processor="SiglipProcessor", prompt_length=64, lower_case=True
    ),
    "align": Family(name="ALIGN", model="AlignModel", processor="AlignProcessor", temperature=True),
    "chinese_clip": Family(name="Chinese-CLIP", model="ChineseCLIPModel", processor="ChineseCLIPProcessor"),
}
"""`model_type` of a config -> its family. SigLIP 2 checkpoints of a fixed resolution are `siglip` too."""

_MISSING = {
    "siglip2": "its images have no fixed resolution (NaFlex): each comes with an attention mask and its shape in "
    "patches, which hf_paint does not carry. SigLIP 2 of a fixed resolution, such as "
    "google/siglip2-base-patch16-224, is a siglip model and can be patched",
    "altclip": "transformers saves its tensors under other names than those it loads: the files of before and after "
    "fine-tuning would not fit together",
    "blip": "its checkpoints hold a captioner or a matcher, and not the two projections of BlipModel",
    "blip-2": "it has no `get_image_features` and `get_text_features` with one embedding for an image and a text",
    "clipseg": "saving it as a model with two towers would lose its decoder",
    "videoprism": "its image tower takes videos",
}
"""`model_type` -> what keeps it from being patched, where the class of the model would not tell."""


def family_of(model: "PreTrainedModel") -> Family:
    """Return the family of a model.

    Raises:
        InputError: If it is in none.

    Example:
        >>> family_of(model).processor
        'CLIPProcessor'
    """
    return find_family(model.config, type(model).__name__)


def find_family(config: Any, name: str) -> Family:
    """Return the family of a model by its config.

    Args:
        config: The config of the model.
        name: What messages call it.

    Raises:
        InputError: If it is in none; it says what is missing.
    """
    model_type = str(config.model_type)
    if model_type not in FAMILIES:
        raise InputError(
            f"'{name}' is a {model_type} model, which cannot be patched: {_what_is_missing(config)}. These can be: "
            f"{', '.join(FAMILIES)}."
        )
    return FAMILIES[model_type]


def logit_scale(model: "PreTrainedModel") -> "Tensor":
    """Return the factor, shape (), between cosine similarities and logits, in float32 on the CPU.

    Example:
        >>> logit_scale(model)
        tensor(14.2857)
    """
    weights: Any = model
    scale = 1 / weights.temperature.float() if family_of(model).temperature else weights.logit_scale.float().exp()
    factor: Tensor = scale.detach().reshape(()).cpu().clone()
    return factor


def _what_is_missing(config: Any) -> str:
    """Return what keeps a model from being patched."""
    from transformers import MODEL_MAPPING

    if config.model_type in _MISSING:
        return _MISSING[config.model_type]
    kind = MODEL_MAPPING.get(type(config), None)
    needed = ("get_image_features", "get_text_features")
    missing = [f"`{method}`" for method in needed if not hasattr(kind, method)]
    return f"it has no {' and no '.join(missing)}" if missing else "hf_paint has no description of its towers"
