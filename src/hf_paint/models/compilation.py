"""Compile the repeated blocks of a model: one graph serves all of them, so compiling takes seconds, not a minute."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from hf_paint.errors import one_line, warn_once


PAYS_FROM = 1e16
"""Floating-point operations from which compiling pays on a GPU.

On an H100, it takes 5 seconds for a ViT-L/14. For every 1e16 operations, it then saves 6 seconds of an evaluation in
bfloat16, and 11 of a training.
"""


def compile_blocks(
    model: nn.Module, *, size: int, backward: bool, backend: str = "inductor", mode: str | None = None
) -> None:
    """Compile the repeated blocks of a model in place, for batches of one size, with or without gradients.

    Everything else, like the last batch of a split, and an evaluation during training, runs without the compiled
    code. So there is one graph, whatever the number of epochs, tasks and alphas. Names and parameters of the model do
    not change, and copies of it are not compiled. If the compiler fails, the model runs without it, and a warning says
    so. A model without repeated blocks is compiled as a whole.

    Args:
        model: Model whose blocks take a tensor (batch, ...) as their first argument.
        size: The size of the batches.
        backward: Whether gradients are computed.
        backend: Backend of `torch.compile`.
        mode: Mode of `torch.compile`.

    Example:
        >>> tower = image_tower(model)
        >>> compile_blocks(tower, size=8, backward=False)
        >>> tower(pixel_values=torch.zeros(3, 3, 32, 32)).image_embeds.shape
        torch.Size([3, 24])
    """
    call = _CompiledCall(size, backward=backward)
    for block in repeated_blocks(model) or [model]:
        plain = block._call_impl
        compiled = torch.compile(plain, backend=backend, mode=mode, dynamic=False)
        block._compiled_call_impl = call.of(plain, compiled)  # where `nn.Module.compile` puts its own


def is_compiled(model: nn.Module) -> bool:
    """Return whether `compile_blocks` compiled a model.

    Example:
        >>> is_compiled(model)
        False
    """
    return any(module._compiled_call_impl is not None for module in model.modules())


def undo_compilation(model: nn.Module) -> None:
    """Make a model run without compiled code again."""
    for module in model.modules():
        module._compiled_call_impl = None


def pays(model: nn.Module, device: torch.device, num_images: int, *, backward: bool) -> bool:
    """Return whether compiling an image tower saves more time than it takes: only on GPUs, and for long work.

    Args:
        model: Image tower.
        device: Where it runs.
        num_images: Number of images that it will be run on.
        backward: Whether it is trained on them, which takes three times as many operations.
    """
    operations = num_images * operations_per_image(model) * (3 if backward else 1)
    return device.type == "cuda" and operations >= PAYS_FROM


def operations_per_image(model: nn.Module) -> int:
    """Return the number of floating-point operations in the linear layers of a vision transformer's blocks.

    It is 0 for models without repeated blocks or without patches.
    """
    config = getattr(model, "config", None)
    image_size, patch_size = (getattr(config, name, None) for name in ("image_size", "patch_size"))
    if not isinstance(image_size, int) or not isinstance(patch_size, int):
        return 0
    tokens = (image_size // patch_size) ** 2 + 1
    return 2 * tokens * sum(x.numel() for block in repeated_blocks(model) for x in block.parameters() if x.dim() == 2)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Return the blocks of every list of at least two modules of the same class with parameters of the same shapes.

    Example:
        >>> [type(block).__name__ for block in repeated_blocks(image_tower(model))]
        ['CLIPEncoderLayer', 'CLIPEncoderLayer']
    """
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    return [block for blocks in lists if len({_form(block) for block in blocks}) == 1 for block in blocks]


def _form(block: nn.Module) -> object:
    return type(block), tuple((name, x.shape, x.dtype) for name, x in block.named_parameters())


class _CompiledCall:
    """What decides whether the blocks of a model run compiled.

    Args:
        size: The size of the batches that do.
        backward: Whether they are those with gradients, or those without.
    """

    def __init__(self, size: int, *, backward: bool) -> None:
        self.size, self.backward = size, backward
        self.works = True

    def of(self, plain: Callable[..., Any], compiled: Callable[..., Any]) -> Callable[..., Any]:
        """Return the call of one block."""

        def call(*args: Any, **kwargs: Any) -> Any:
            if not self.takes(args, kwargs):
                return plain(*args, **kwargs)
            try:
                return compiled(*args, **kwargs)
            except Exception as error:
                if not _is_from_the_compiler(error):
                    raise
                self.works = False
                warn_once(f"torch.compile failed, so the model runs without it: {one_line(error)}")
                return plain(*args, **kwargs)

        return call

    def takes(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Return whether a call is of the kind that is compiled."""
        first = next((x for x in (*args, *kwargs.values()) if torch.is_tensor(x)), None)
        size = None if first is None else len(first)
        return self.works and size == self.size and torch.is_grad_enabled() == self.backward


def _is_from_the_compiler(error: Exception) -> bool:
    """Return whether an error is about compiling, rather than about what is computed."""
    from torch._dynamo.exc import TorchDynamoException, TorchRuntimeError

    return isinstance(error, TorchDynamoException) and not isinstance(error, TorchRuntimeError)
