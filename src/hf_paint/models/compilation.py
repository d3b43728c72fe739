"""Compile the repeated blocks of a model: one graph serves all of them, so compiling takes seconds, not a minute."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

from hf_paint.errors import one_line, warn_once
from hf_paint.models.towers import num_tokens


PAYS_FROM = 1e16
"""Floating-point operations from which compiling pays on a GPU.

On an H100, it takes 5 seconds for a ViT-L/14. For every 1e16 operations, it then saves 6 seconds of an evaluation in
bfloat16, and 11 of a training.
"""


def compile_blocks(
    model: nn.Module, *, size: int, backward: bool, backend: str = "inductor", mode: str | None = None
) -> None:
    """Compile the repeated blocks of a model in place, for batches of one size, with or without gradients.

    Everything else, such as the last batch of a split or an evaluation during training, runs uncompiled, so there is
    one graph however many epochs, tasks and alphas there are. Names and parameters of the model do not change, and
    copies of it are not compiled. If the compiler fails, the model runs without it, and a warning says
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
    kind = _Kind(size=size, backward=backward)
    for block in repeated_blocks(model) or [model]:
        compiled = torch.compile(block._call_impl, backend=backend, mode=mode, dynamic=False)
        block._compiled_call_impl = _Call(kind, block._call_impl, compiled)  # where `nn.Module.compile` puts its own


def is_compiled(model: nn.Module) -> bool:
    """Return whether `compile_blocks` compiled a model.

    Example:
        >>> is_compiled(model)
        False
    """
    return any(isinstance(module._compiled_call_impl, _Call) for module in model.modules())


def undo_compilation(model: nn.Module) -> None:
    """Undo `compile_blocks`."""
    for module in model.modules():
        if isinstance(module._compiled_call_impl, _Call):
            module._compiled_call_impl = None


def pays(model: nn.Module, device: torch.device, num_images: float, *, backward: bool) -> bool:
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
    blocks = repeated_blocks(model)
    return (
        2 * (num_tokens(model) or 0) * sum(x.numel() for block in blocks for x in block.parameters() if x.dim() == 2)
    )


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


@dataclass(kw_only=True)
class _Kind:
    """Which calls run compiled.

    Attributes:
        size: The size of their batches.
        backward: Whether gradients are computed.
        works: False once the compiler has failed.
    """

    size: int
    backward: bool
    works: bool = True

    def includes(self, values: Iterable[object]) -> bool:
        """Return whether a call with these arguments is of this kind."""
        first = next(filter(torch.is_tensor, values), None)
        size = None if first is None else len(first)
        return self.works and size == self.size and torch.is_grad_enabled() == self.backward


@dataclass(frozen=True)
class _Call:
    """Calls a block, compiled if the call is of this kind."""

    kind: _Kind
    plain: Callable[..., object]
    compiled: Callable[..., object]

    def __call__(self, *args: object, **kwargs: object) -> object:
        if not self.kind.includes((*args, *kwargs.values())):
            return self.plain(*args, **kwargs)
        try:
            return self.compiled(*args, **kwargs)
        except RuntimeError as error:
            if not _is_from_the_compiler(error):
                raise
            self.kind.works = False
            warn_once(f"torch.compile failed, so the model runs without it: {one_line(error)}")
            return self.plain(*args, **kwargs)


def _is_from_the_compiler(error: RuntimeError) -> bool:
    """Return whether an error is about compiling, rather than about what is computed."""
    from torch._dynamo.exc import TorchDynamoException, TorchRuntimeError

    return isinstance(error, TorchDynamoException) and not isinstance(error, TorchRuntimeError)
