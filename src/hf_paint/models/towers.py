"""Image and text towers as separate models."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import ClassVar, Protocol, Self, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.utils.generic import ModelOutput

from hf_paint.models.families import family_of
from hf_paint.models.patch_embedding import use_matrix_products
from hf_paint.weights.layers import IMAGE_TOWER


Model = TypeVar("Model", bound=nn.Module)


class Features(Protocol):
    """Output of a tower."""

    pooler_output: Tensor


class DualEncoder(Protocol):
    """The two methods that models of all families have."""

    get_image_features: ClassVar[Callable[..., Features]]
    get_text_features: ClassVar[Callable[..., Features]]


def dual_encoder(model: PreTrainedModel) -> type[DualEncoder]:
    """Return the class of a model, typed as having the methods that embed images and texts."""
    return cast(type[DualEncoder], type(model))


class Tower(PreTrainedModel):
    """One tower of a model as a separate model, which shares its parameters with the model and uses the same names.

    The config is copied, so changes to it do not affect the config of the model.

    Args:
        model: The whole model.
        config: Config of the tower.
        image: Whether this is the image tower.
    """

    supports_gradient_checkpointing = True
    # The layers themselves raise an error for an implementation that they do not support.
    _supports_sdpa = _supports_flash_attn = _supports_flex_attn = _supports_attention_backend = True

    def __init__(self, model: PreTrainedModel, config: PreTrainedConfig, *, image: bool) -> None:
        super().__init__(deepcopy(config))
        for name, module in model.named_children():
            if f"{name}.".startswith(IMAGE_TOWER) == image:
                self.add_module(name, module)
        self._no_split_modules = model._no_split_modules
        self.all_tied_weights_keys: dict[str, str] = {}

    def get_input_embeddings(self) -> None:  # type: ignore[override]
        """Return None: the input layer differs between families, and FSDP2 does not need to wrap it."""


@dataclass
class ImageTowerOutput(ModelOutput):
    """Un-normalised image embeddings (batch, embed_dim)."""

    image_embeds: Tensor | None = None


class ImageTower(Tower):
    """The image tower of a model of any family, which maps pixels to un-normalised image embeddings.

    Batch norm statistics stay frozen at those of theta_0 during training. They are not weights: interpolating them
    would not give the statistics of the interpolated model.

    Args:
        model: The whole model.

    Raises:
        InputError: If the model does not belong to a supported family.

    Example:
        >>> ImageTower(model)(pixel_values=torch.zeros(3, 3, 32, 32)).image_embeds.shape
        torch.Size([3, 24])
    """

    main_input_name = "pixel_values"

    def __init__(self, model: PreTrainedModel) -> None:
        family_of(model)  # raises an error for unsupported models
        super().__init__(model, model.config.vision_config, image=True)
        self._embed = dual_encoder(model).get_image_features
        use_matrix_products(self)
        self.train(model.training)

    def forward(self, pixel_values: Tensor, **kwargs: object) -> ImageTowerOutput:
        """Return image embeddings (batch, embed_dim) for pixels (batch, 3, height, width)."""
        return ImageTowerOutput(image_embeds=self._embed(self, pixel_values=pixel_values, **kwargs).pooler_output)

    def train(self, mode: bool = True) -> Self:
        """Switch between training and evaluation mode; batch norms always stay in evaluation mode."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, _BatchNorm):
                module.eval()
        return self


class TextTower(Tower):
    """The text tower of a model of any family, which maps tokens to un-normalised text embeddings.

    Args:
        model: The whole model.
    """

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model, model.config.text_config, image=False)
        self._embed = dual_encoder(model).get_text_features

    def forward(self, **tokens: Tensor) -> Tensor:
        """Return text embeddings (batch, embed_dim) for the output of a tokenizer."""
        return self._embed(self, **tokens).pooler_output


def image_tower(model: PreTrainedModel) -> ImageTower:
    """Return the image tower of a model as a separate model with the same parameter names.

    The tower shares its parameters with the model, so training the tower also trains the model.

    Example:
        >>> tower = image_tower(model)
        >>> tower.visual_projection.weight is model.visual_projection.weight
        True
    """
    return ImageTower(model)


def image_tower_weights(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return the image tower's weights, named as in the model and sharing storage with it.

    Only floating-point tensors count as weights, so the batch counters of batch norms are left out.
    """
    tensors = model.state_dict().items()
    return {name: tensor for name, tensor in tensors if name.startswith(IMAGE_TOWER) and tensor.is_floating_point()}


def num_tokens(tower: nn.Module) -> int | None:
    """Return the number of tokens that a vision transformer makes of an image; None for other image towers.

    Example:
        >>> num_tokens(image_tower(model))
        17
    """
    config = getattr(tower, "config", None)
    image_size, patch_size = (getattr(config, name, None) for name in ("image_size", "patch_size"))
    if not isinstance(image_size, int) or not isinstance(patch_size, int):
        return None
    return (image_size // patch_size) ** 2 + 1


def with_weights(model: Model, weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Model:
    """Return a copy of a model with different weights, on the same device; tensors are shared if nothing changes.

    Args:
        model: Model to copy.
        weights: Name -> new tensor. Tensors that are not listed are taken from the model. Tensors are only copied if
            they have to be converted to `dtype` or moved to the model's device.
        dtype: Dtype of all floating-point tensors in the copy.

    Example:
        >>> other = with_weights(model, {"visual_projection.weight": torch.zeros(24, 32)})
        >>> float(other.visual_projection.weight.sum())
        0.0
        >>> other.text_projection.weight.data_ptr() == model.text_projection.weight.data_ptr()
        True
    """
    tensors: dict[str, Tensor] = model.state_dict(keep_vars=True)

    def convert(name: str) -> Tensor:
        tensor = weights.get(name, tensors[name]).detach()
        return tensor.to(tensors[name].device, dtype if tensor.is_floating_point() else tensor.dtype)

    return copy_with(model, {name: convert(name) for name in tensors})


def copy_with(model: Model, tensors: Mapping[str, Tensor]) -> Model:
    """Return a copy of a model with these tensors in place of its own, which are never copied.

    Replacing the tensors after a plain `deepcopy` would need memory for both.

    Args:
        model: Model to copy.
        tensors: Name -> tensor, named as in `state_dict`.
    """
    copies: dict[int, object] = {}  # the memo of deepcopy: id of an object -> its copy
    copies |= {id(x): nn.Parameter(tensors[name]) for name, x in model.named_parameters() if name in tensors}
    copies |= {id(x): tensors[name] for name, x in model.named_buffers() if name in tensors}
    return deepcopy(model, copies)


def move(model: Model, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Model:
    """Move a model to a device and convert it to a dtype, in place: a typed version of `model.to`."""
    return model.to(device, dtype)


@contextmanager
def attention(model: PreTrainedModel, implementation: str) -> Iterator[None]:
    """Use another attention implementation (`eager`, `sdpa`, ...) for a model inside a `with` block.

    Example:
        >>> with attention(model, "eager"):
        ...     model.vision_model.config._attn_implementation
        'eager'
        >>> model.vision_model.config._attn_implementation
        'sdpa'
    """
    parts = [part for part in model.modules() if isinstance(part, PreTrainedModel)]  # a part may have a copied config
    before = [part.config._attn_implementation for part in parts]
    try:
        for part in parts:
            part.set_attn_implementation(implementation)
        yield
    finally:
        for part, earlier in zip(parts, before, strict=True):
            part.set_attn_implementation(earlier)
