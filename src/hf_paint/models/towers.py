"""The towers of a model, each as a model of its own."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hf_paint.models.families import family_of
from hf_paint.weights.layers import IMAGE_TOWER


Model = TypeVar("Model", bound=nn.Module)


class Tower(PreTrainedModel):
    """One tower of a model as a model of its own: it shares the parameters, and they keep their names.

    Its config is a copy, so that nothing done to the tower shows in the config of the model.

    Args:
        model: The model.
        config: The config of the tower.
        image: Whether it is the image tower.
    """

    supports_gradient_checkpointing = True
    # What the layers themselves do not support they refuse.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, model: PreTrainedModel, config: PreTrainedConfig, *, image: bool) -> None:
        super().__init__(deepcopy(config))
        for name, module in model.named_children():
            if f"{name}.".startswith(IMAGE_TOWER) == image:
                self.add_module(name, module)
        self._no_split_modules = model._no_split_modules
        self.all_tied_weights_keys: dict[str, str] = {}

    def get_input_embeddings(self) -> None:  # type: ignore[override]
        """Return None: FSDP2 needs no unit for what a tower begins with, whatever it is in its family."""


@dataclass
class ImageTowerOutput(ModelOutput):
    """The un-normalised embeddings (batch, embed_dim) of images."""

    image_embeds: Tensor | None = None


class ImageTower(Tower):
    """The image tower of a model, of any family: its pixels go in, un-normalised image embeddings come out.

    Batch norms keep the statistics of theta_0 while the tower is trained. They are no weights: between two models
    there is no line on which the interpolated statistics are those of the interpolated weights.

    Args:
        model: The model.

    Raises:
        InputError: If the model is of no family.

    Example:
        >>> ImageTower(model)(pixel_values=torch.zeros(3, 3, 32, 32)).image_embeds.shape
        torch.Size([3, 24])
    """

    main_input_name = "pixel_values"

    def __init__(self, model: PreTrainedModel) -> None:
        family_of(model)  # refuses the others
        super().__init__(model, model.config.vision_config, image=True)
        self._embed = cast(Any, type(model)).get_image_features
        self.train(model.training)

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> ImageTowerOutput:
        """Return the embeddings of pixels (batch, 3, height, width)."""
        return ImageTowerOutput(image_embeds=self._embed(self, pixel_values=pixel_values, **kwargs).pooler_output)

    def train(self, mode: bool = True) -> Self:
        """Train or evaluate, in either case with the statistics of batch norms as they are."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


class TextTower(Tower):
    """The text tower of a model, of any family: tokens go in, un-normalised text embeddings come out.

    Args:
        model: The model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, model.config.text_config, image=False)
        self._embed = cast(Any, type(model)).get_text_features

    def forward(self, **tokens: Tensor) -> Tensor:
        """Return the embeddings (batch, embed_dim) of what a tokenizer returns."""
        embeds: Tensor = self._embed(self, **tokens).pooler_output
        return embeds


def image_tower(model: PreTrainedModel) -> ImageTower:
    """Return the image tower of a model as a model of its own that shares the parameters.

    Training the tower trains the model, and the names of its tensors are those of the model.

    Example:
        >>> tower = image_tower(model)
        >>> tower.visual_projection.weight is model.visual_projection.weight
        True
    """
    return ImageTower(model)


def image_tower_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the weights of the image tower by their names in the model, sharing storage with it.

    What is no number with a fraction, such as how many batches a batch norm has seen, is no weight.
    """
    tensors = model.state_dict().items()
    return {name: tensor for name, tensor in tensors if name.startswith(IMAGE_TOWER) and tensor.is_floating_point()}


def with_weights(model: Model, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Model:
    """Return a copy of a model, on its device, with other weights and in a dtype; tensors that fit are not copied.

    Args:
        model: The model.
        weights: Name -> tensor; the others are those of the model.
        dtype: The dtype of all that is floating-point.

    Example:
        >>> other = with_weights(model, {"visual_projection.weight": torch.zeros(24, 32)})
        >>> float(other.visual_projection.weight.sum())
        0.0
        >>> other.text_projection.weight.data_ptr() == model.text_projection.weight.data_ptr()
        True
    """
    copies: dict[int, Any] = {}
    for name, there in model.state_dict(keep_vars=True).items():
        tensor = weights.get(name, there).detach()
        tensor = tensor.to(there.device, dtype if tensor.is_floating_point() else tensor.dtype)
        copies[id(there)] = nn.Parameter(tensor) if isinstance(there, nn.Parameter) else tensor
    return deepcopy(model, copies)


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Let a model use another implementation of attention, such as `eager` or `sdpa`, inside a `with` block.

    Example:
        >>> with attention(model, "eager"):
        ...     model.vision_model.config._attn_implementation
        'eager'
        >>> model.vision_model.config._attn_implementation
        'sdpa'
    """
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)
